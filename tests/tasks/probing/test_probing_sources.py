"""Sources in a profile file: strict, read without torch; what is missing is told before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import yaml
from probing_files import picture, save
from pydantic import BaseModel, Field

from tasks.common.errors import UserError
from tasks.common.validation import parse
from tasks.miniature.broden import export
from tasks.probing.base import ProbingSet
from tasks.probing.build import build
from tasks.probing.missing import missing
from tasks.probing.schema import Source


class Sets(BaseModel):
    probing_sets: dict[str, Annotated[Source, Field(discriminator="loader")]]


def one(text: str) -> Source:
    return parse(Sets, {"probing_sets": {"it": yaml.safe_load(f"{{{text}}}")}}, "a test").probing_sets["it"]


def test_a_profiles_sources_are_read():
    text = """
    probing_sets:
      broden: {loader: broden, path: data/b, size: 227, split: val, categories: [object, part], licence: b}
      imagenet_val: {loader: imagenet, path: ~/val, ground_truth: kit/truth.txt, licence: research only}
      mine: {loader: folder, path: /photos, max_skipped: 0, licence: mine}
      cifar100: {loader: cifar, path: cifar, variant: cifar100, licence: none stated}
    """
    sets = parse(Sets, yaml.safe_load(text), "a test").probing_sets
    base = Path("/profiles")
    assert sets["broden"].resolved(base).path == base / "data/b"
    assert sets["imagenet_val"].resolved(base).path == Path.home() / "val"
    assert sets["imagenet_val"].resolved(base).ground_truth == base / "kit/truth.txt"
    assert sets["mine"].resolved(base).path == Path("/photos")
    assert sets["broden"].categories == ("object", "part")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("loader: foldr, path: a, licence: b", "folder"),
        ("loader: folder, licence: b", "path' is missing"),
        ("loader: folder, path: a, licence: b, sise: 3", "sise"),
        ("loader: folder, path: a, licence: b, resize: 64", "resize"),
        ("loader: folder, path: a, licence: b, max_skipped: 1.5", "less than or equal to 1"),
        ("loader: broden, path: a, licence: b, size: 256", "Allowed: 224, 227, 384"),
        ("loader: broden, path: a, licence: b, categories: [objects]", "Did you mean 'object'"),
        ("loader: broden, path: a, licence: b, annotation: 'yes'", "annotation"),
        ("loader: cifar, path: a, licence: b, variant: cifar11", "cifar10"),
    ],
)
def test_a_mistake_is_a_sentence(text, words):
    with pytest.raises(UserError, match=words):
        one(text)


def test_reading_sources_needs_no_torch():
    code = "import sys, tasks.probing.schema, tasks.probing.missing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_missing_is_told_with_its_size_where_that_is_known(tmp_path):
    cases = {
        f"loader: folder, path: {tmp_path}/none, licence: b": [(f"{tmp_path}/none", None, "--images FOLDER")],
        f"loader: imagenet, path: {tmp_path}/val, ground_truth: {tmp_path}/t.txt, licence: b": [
            (f"{tmp_path}/val", 6_744_924_160, "image-net.org"),
            (f"{tmp_path}/t.txt", None, "development kit"),
        ],
        f"loader: broden, path: {tmp_path}/b, size: 384, licence: b": [(f"{tmp_path}/b", None, "--size 384")],
        f"loader: cifar, path: {tmp_path}/c, licence: b": [(f"{tmp_path}/c", 170_052_171, "cifar-10-binary")],
    }
    for text, expected in cases.items():
        found = missing(one(text))
        assert [(str(item.path), item.size) for item in found] == [(path, size) for path, size, _ in expected]
        for item, (_, _, words) in zip(found, expected, strict=True):
            assert words in item.how
        with pytest.raises(UserError, match="There is no"):
            build(one(text))


def test_a_part_of_broden_may_be_missing(tmp_path):
    export(tmp_path / "b", "probe", 1)
    source = one(f"loader: broden, path: {tmp_path}/b, licence: b")
    assert missing(source) == []
    (tmp_path / "b/label.csv").unlink()
    assert [item.path for item in missing(source)] == [tmp_path / "b/label.csv"]
    assert missing(source.model_copy(update={"annotation": False})) == []


def test_every_source_is_built_as_it_says(tmp_path):
    export(tmp_path / "broden", "probe", 2)
    for number in range(3):
        save(tmp_path / "flat" / f"ILSVRC2012_val_0000000{number}.JPEG", picture(number))
        save(tmp_path / "cifar/test/cat" / f"{number}.png", picture(number, 32, 32))
        save(tmp_path / "cifar/test/dog" / f"{number}.png", picture(9 + number, 32, 32))
    (tmp_path / "truth.txt").write_text("".join(f"ILSVRC2012_val_0000000{n}.JPEG {n}\n" for n in range(3)))
    built: list[tuple[ProbingSet, int]] = [
        (build(one(f"loader: broden, path: {tmp_path}/broden, split: train, categories: [scene], licence: b")), 2),
        (build(one(f"loader: folder, path: {tmp_path}/flat, licence: CC0"), 2, seed=1), 2),
        (
            build(one(f"loader: imagenet, path: {tmp_path}/flat, ground_truth: {tmp_path}/truth.txt, licence: CC0"), 3),
            3,
        ),
        (build(one(f"loader: cifar, path: {tmp_path}/cifar, licence: CC0")), 6),
    ]
    assert [opened.name for opened, _ in built] == ["broden", "folder", "imagenet", "folder"]
    for opened, count in built:
        assert len(opened.ids) == count == len(opened.images) == len(opened.presence)
        assert len(opened.digest) == 64
    assert list(built[0][0].segmentation.categories) == ["scene"]
    assert built[0][0].foreground is None  # no objects, no parts
    assert built[2][0].classes.tolist() == [0, 1, 2]
    assert built[1][0].ids == build(one(f"loader: folder, path: {tmp_path}/flat, licence: CC0"), 2, seed=1).ids
