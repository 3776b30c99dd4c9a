"""Whether one profile predicts another: made-up runs whose agreement is known, the command, and the board's section."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_runs
from scipy import stats
from small_runs import write_run
from typer.testing import CliRunner

from leaderboard.board.build import Board, build_board
from leaderboard.board.merge import Group, merge_runs
from leaderboard.board.pack import pack_runs
from leaderboard.board.robustness import kept_accuracies
from leaderboard.board.summary import summarise
from leaderboard.board.validity import MEAN, METHODS, as_json, compare_groups
from leaderboard.board.validity_pairs import against_miniature, in_words, pairs
from leaderboard.cli import app
from leaderboard.pages.board_files import as_json as board_json
from leaderboard.pages.board_page import board_page
from leaderboard.pages.frame import render
from leaderboard.pages.task_page import task_page
from leaderboard.store.analysis_schema import ROBUSTNESS
from leaderboard.store.run_folder import RunFolder

NAMES: tuple[str, ...] = (
    "gaussian_blur", "gaussian_noise", "shot_noise", "snow", "frost", "fog", "contrast", "pixelate", "jpeg_compression",
)  # fmt: skip
"""In the order of all tables."""

SUITES = {"own": tuple((name, 3) for name in NAMES)}
FALLING: Mapping[str, float] = dict(zip(NAMES, np.linspace(0.9, 0.1, len(NAMES)), strict=True))
RISING: Mapping[str, float] = dict(zip(NAMES, np.linspace(0.1, 0.9, len(NAMES)), strict=True))
METHODS_OF = {"clip_dissect": 0.15, "dnd": 0.3, "network_dissection": 0.6, "random_label": 1.0, "constant_label": 0.0}
OFFSETS = {"clip_dissect": 0.0, "dnd": -0.05, "network_dissection": 0.05}


@pytest.fixture(autouse=True)
def _quick(few_resamples: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is compared rests on the scores; the summary takes longest.
    monkeypatch.setattr(small_runs, "summarise", lambda scores, seed: summarise(scores.iloc[:0], seed))


def run(
    path: Path,
    profile: str,
    stability: Mapping[str, float],
    kept: Mapping[str, float] | None = None,
    *,
    task: str = "toy_task",
    truth: str = "class_names",
    offsets: Mapping[str, float] = OFFSETS,
    seed: int = 0,
) -> Path:
    """A run whose stability and accuracy kept are as told, with noise between units and images."""
    write_run(path, METHODS_OF, task=task, profile=profile, suites=SUITES, thumbnails=False, about={"truth": truth},
              comparisons=False)  # fmt: skip
    rng = np.random.default_rng(seed)
    folder = RunFolder(path)
    scores = folder.read_table("scores")
    moved = scores["perturbation"].isin(list(stability)) & ~scores["dead"]
    means = [
        stability[name] + offsets.get(method, 0.0)
        for name, method in zip(scores.loc[moved, "perturbation"], scores.loc[moved, "method"], strict=True)
    ]
    scores.loc[moved, "stability"] = np.minimum(np.array(means) + rng.normal(0, 0.02, len(means)), 1.0)
    folder.write_table("scores", scores)
    if kept is not None:
        folder.write_table("robustness", verdicts(task, profile, kept))
    return path


def verdicts(task: str, profile: str, kept: Mapping[str, float], images: int = 100) -> pd.DataFrame:
    """The first images are right; fog leaves out the last ten."""
    rows = []
    for role, clean in (("network", 90), ("clip", 50)):
        for name, share in {"clean": 1.0, **kept}.items():
            for image in range(images - 10 if name == "fog" else images):
                place = {"task": task, "profile": profile, "role": role, "perturbation": name}
                place |= {"severity": 0 if name == "clean" else 3, "image": f"image-{image:03d}"}
                rows.append({**place, "right": image < round(clean * share)})
    return pd.DataFrame(rows)


def two(tmp_path: Path, second: Mapping[str, float], offsets: Mapping[str, float] = OFFSETS) -> tuple[Group, Group]:
    run(tmp_path / "runs" / "a", "miniature", FALLING, FALLING)
    run(tmp_path / "runs" / "b", "photo", second, second, task="photo_task", offsets=offsets, seed=1)
    ((first, other),) = pairs(merge_runs(tmp_path / "runs"), "miniature", "photo")
    return first, other


def test_the_same_order_is_found_on_all_counts(tmp_path):
    found = compare_groups(*two(tmp_path, FALLING))
    for key in (("stability", MEAN), ("stability", "dnd"), ("accuracy kept", "network"), ("accuracy kept", "clip")):
        one = found.by_condition(*key)
        assert one is not None
        assert one.names == tuple(f"{name} 3" for name in NAMES)
        assert one.agreement["spearman"].estimate == pytest.approx(1)
        assert one.agreement["spearman"].low > 0.9
        assert one.agreement["difference"].estimate < 0.02
    (ranks,) = (one for one in found.compared if one.of == METHODS and one.measure == "stability")
    assert ranks.names == ("clip_dissect", "dnd", "network_dissection")
    assert ranks.agreement["kendall"].estimate == ranks.agreement["spearman"].estimate == pytest.approx(1)


def test_the_reverse_order_is_found_on_all_counts(tmp_path):
    turned = {method: -offset for method, offset in OFFSETS.items()}
    found = compare_groups(*two(tmp_path, RISING, turned))
    for one in found.compared:
        if one.measure != "accuracy":
            assert one.agreement["spearman"].estimate == pytest.approx(-1)
            assert one.agreement["spearman"].high < 0
    assert all("inverts the order" in sentence for sentence in in_words(found))
    assert len(in_words(found)) == 3


def test_values_are_the_means_of_the_tables_and_agreement_is_scipys(tmp_path):
    mixed = dict(zip(NAMES, np.random.default_rng(5).permutation(list(FALLING.values())), strict=True))
    first, second = two(tmp_path, mixed)
    found = compare_groups(first, second)
    for method in OFFSETS:
        one = found.by_condition("stability", method)
        assert one is not None
        for side, values in ((first, one.first), (second, one.second)):
            own = side.scores.loc[(side.scores["method"] == method) & (side.scores["severity"] == 3)]
            means = own.groupby("perturbation")["stability"].mean()
            assert values == pytest.approx([means[name] for name in NAMES])
        assert one.agreement["spearman"].estimate == pytest.approx(stats.spearmanr(one.first, one.second).statistic)
    kept = found.by_condition("accuracy kept", "clip")
    assert kept is not None
    shares = {role.role: role for role in kept_accuracies(second.tables["robustness"], 0)}["clip"]
    assert kept.second == pytest.approx([one.estimate for one in shares.kept])
    assert kept.second[NAMES.index("snow")] == pytest.approx(mixed["snow"], abs=0.01)
    assert shares.clean.estimate == 0.5
    assert [one.n for one in shares.accuracy] == [90 if name == "fog" else 100 for name in NAMES]


def test_conditions_can_be_split_into_two_halves(tmp_path):
    pair = two(tmp_path, FALLING)
    halves = [compare_groups(*pair, names) for names in (NAMES[:4], NAMES[4:])]
    names = [half.by_condition("stability").names for half in halves]
    assert sum(names, ()) == compare_groups(*pair).by_condition("stability").names
    assert [len(half.by_condition("accuracy kept").names) for half in halves] == [4, 5]


def test_a_unit_without_a_label_counts_as_wrong_and_not_as_unstable(tmp_path):
    first, second = two(tmp_path, FALLING)
    scores = second.scores
    gap = (scores["method"] == "dnd") & (scores["unit"] == 3) & (scores["perturbation"] == "fog")
    scores.loc[gap, ["stability", "right", "label"]] = [np.nan, pd.NA, None]
    found = compare_groups(first, second)
    own = scores.loc[(scores["method"] == "dnd") & (scores["severity"] == 3) & ~scores["dead"]]
    by_condition = own.assign(right=own["right"].astype("boolean").fillna(False).astype(float)).groupby("perturbation")
    (ranks,) = (one for one in found.compared if (one.measure, one.of) == ("accuracy", METHODS))
    assert ranks.second[ranks.names.index("dnd")] == pytest.approx(by_condition["right"].mean().mean())
    fog = found.by_condition("stability", "dnd").second[NAMES.index("fog")]
    assert fog == pytest.approx(by_condition["stability"].mean()["fog"])


def test_units_are_compared_with_their_kind(tmp_path):
    for task, profile, truth in (
        ("m_fc", "miniature", "class_names"), ("m_hidden", "miniature", "best_concept"),
        ("m_planted", "miniature", "planted"), ("p_fc", "photo", "class_names"), ("p_hidden", "photo", "best_concept"),
        ("shared", "miniature", "best_concept"), ("shared", "photo", "best_concept"),
    ):  # fmt: skip
        run(tmp_path / f"{task}-{profile}", profile, FALLING, task=task, truth=truth)
    runs = merge_runs(tmp_path)
    found = {(one.task, other.task) for one, other in pairs(runs, "miniature", "photo")}
    assert found == {("m_fc", "p_fc"), ("m_hidden", "p_hidden"), ("shared", "shared")}
    ((one, other),) = pairs(runs, "photo", "miniature", ("p_fc", "m_planted"))
    assert (one.task, other.task) == ("p_fc", "m_planted")


def test_other_settings_are_told(tmp_path):
    first, second = two(tmp_path, FALLING)
    settings = {**second.settings, "corruptions": "other"}
    told = compare_groups(first, Group(**{**vars_of(second), "settings": settings})).notes
    assert told == (
        f"Not perturbed alike: corruptions is {first.settings['corruptions']} in miniature and other in photo.",
    )


def vars_of(group: Group) -> dict:
    return {name: getattr(group, name) for name in Group.__dataclass_fields__}


# ---- the command ----


def invoke(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["validity", *words], env={"COLUMNS": "160"})
    return result.exit_code, result.stdout, result.stderr


def test_the_command_prints_numbers_and_writes_only_what_is_asked(tmp_path):
    two(tmp_path, FALLING)
    before = sorted(tmp_path.rglob("*"))
    code, text, _ = invoke("--runs", str(tmp_path / "runs"), "--between", "miniature", "photo")
    assert code == 0
    assert "mean of methods" in text
    assert "miniature predicts the conditions under which labels hold best in photo" in text
    assert sorted(tmp_path.rglob("*")) == before
    words = ("--runs", str(tmp_path / "runs"), "--between", "miniature", "photo", "--pair", "toy_task", "photo_task")
    code, text, _ = invoke(*words, "--conditions", "fog,snow,frost", "--json", "--out", str(tmp_path / "found.json"))
    assert code == 0
    facts = json.loads(text)
    assert facts == json.loads((tmp_path / "found.json").read_text())
    assert facts["conditions"] == ["fog", "snow", "frost"]
    (one,) = facts["pairs"]
    assert [value["name"] for value in one["compared"][0]["values"]] == ["snow 3", "frost 3", "fog 3"]


def test_a_mistake_is_one_sentence(tmp_path):
    two(tmp_path, FALLING)
    given = ("--between", "miniature", "photo")
    for words, told in (
        (("--between", "miniature", "paper"), "No run of the profile paper"),
        ((*given, "--pair", "toy_task", "toy_task"), "No run of the task toy_task in the prof"),
        ((*given, "--conditions", "fog,blub"), "did not run 'blub'"),
        ((*given, "--conditions", ","), "did not run ''"),
    ):
        code, _, error = invoke("--runs", str(tmp_path / "runs"), *words)
        assert code == 1
        assert told in error
        assert error.count("\n") == 1


def test_units_of_different_kinds_are_not_paired(tmp_path):
    run(tmp_path / "a", "miniature", FALLING, truth="best_concept")
    run(tmp_path / "b", "photo", FALLING, task="photo_task")
    code, _, error = invoke("--runs", str(tmp_path), "--between", "miniature", "photo")
    assert (code, "name two with --pair" in error) == (1, True)


# ---- the board, and packed runs ----


def test_the_board_has_a_section_only_where_both_profiles_ran(tmp_path, monkeypatch):
    monkeypatch.setattr(small_runs, "summarise", summarise)
    run(tmp_path / "runs" / "a", "miniature", FALLING, FALLING)
    alone = Board(merge_runs(tmp_path / "runs"), ())
    assert "predict the real network" not in render(board_page(alone))
    run(tmp_path / "runs" / "b", "photo<b>", FALLING, FALLING, task="photo_task", seed=1)
    board = build_board(merge_runs(tmp_path / "runs"))
    page = render(board_page(board))
    assert page == render(board_page(Board(merge_runs(tmp_path / "runs"), board.standings)))
    assert "Does the miniature predict the real network?" in page
    assert "miniature predicts the conditions under which labels hold best in photo&lt;b&gt;" in page
    assert "photo<b>" not in page
    assert "Accuracy kept ↑ by the network and by CLIP" in render(task_page(board.standings[0], "", ()))
    (one,) = board_json(board)["validity"]
    assert one["second"]["profile"] == "photo<b>"


def test_packed_runs_give_the_same_comparison(tmp_path):
    two(tmp_path, FALLING)
    pack_runs(tmp_path / "runs", tmp_path / "packed")
    assert (
        RunFolder(tmp_path / "packed" / "a")
        .read_table(ROBUSTNESS.name)
        .equals(RunFolder(tmp_path / "runs" / "a").read_table(ROBUSTNESS.name))
    )
    found = [list(map(as_json, against_miniature(merge_runs(tmp_path / name)))) for name in ("runs", "packed")]
    assert found[0] == found[1]
    assert len(found[0]) == 1
