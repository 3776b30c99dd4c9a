"""``preview``: a page of one's own image under perturbations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmark.cli import app
from tasks.miniature.probing import MiniatureProbingSet


def call(*arguments: object):
    return CliRunner().invoke(app, ["preview", *map(str, arguments)])


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    path = tmp_path / "scene.png"
    Image.fromarray(MiniatureProbingSet("test", 1).images[0].permute(1, 2, 0).numpy()).save(path)
    return path


def test_a_page_shows_each_severity(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.png"
    asked = ("--suites", "background_grey,contrast", "--profile", "miniature")
    done = call(scene, *asked, "--out", out)
    assert done.exit_code == 0, done.output
    page = np.asarray(Image.open(out).convert("RGB")).astype(float)
    assert page.shape[1] > 1000
    # The last thumbnail of each five is nearly one grey.
    row = page[150:200]
    assert row[:, 500:560].std() < row[:, 40:130].std()
    again = tmp_path / "again.png"
    call(scene, *asked, "--out", again)
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--suites", "fogg"], "Did you mean fog"),
        (["--suites", "fog,background_blur"], "background_blur needs the foreground of scene.png"),
        (["--lengths", "large"], "lengths"),
        (["--corruptions", "ours"], "corruptions"),
        (["--out", "page.jpg"], "the name must end in .png"),
    ],
)
def test_mistakes_get_one_clear_sentence(arguments: list[str], sentence: str, scene: Path, tmp_path: Path) -> None:
    done = call(scene, "--out", tmp_path / "page.png", *arguments)
    assert done.exit_code == 1
    assert sentence in done.output
    assert "Traceback" not in done.output
    assert not list(tmp_path.glob("page.*"))


def test_a_missing_or_broken_image_is_said(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no image")
    for name in ("nowhere.png", "broken.png"):
        done = call(tmp_path / name, "--out", tmp_path / "page.png")
        assert done.exit_code == 1
        assert name in done.output
