"""Runs of concept bottlenecks on the board: which count, what their page says, and that no text can act."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from small_bottlenecks import write_analyses, write_bottleneck
from small_runs import write_run

from leaderboard.board.build import build_board
from leaderboard.board.merge import conditions_of, merge_runs
from leaderboard.board.pack import pack_runs
from leaderboard.pages import write_site
from leaderboard.pages.board_files import as_frame, as_json
from leaderboard.pages.charts import bars, ends_of
from leaderboard.view.bottleneck_findings import blamed, findings, of_condition

pytestmark = pytest.mark.usefixtures("few_resamples")

HOSTILE = '<script>alert("x")</script>\u202e'


def page_of(runs: Path, out: Path) -> str:
    write_site(build_board(merge_runs(runs)), out)
    return (out / "tasks" / "toy-v1-miniature.html").read_text()


def test_the_newer_of_two_equal_runs_counts_and_an_unfinished_one_is_left_out(tmp_path):
    write_bottleneck(tmp_path / "old", started="2026-01-01T00:00:00+00:00")
    write_bottleneck(tmp_path / "new")
    write_bottleneck(tmp_path / "other", seed=7)
    write_bottleneck(tmp_path / "open", seed=8, done=False)
    found = merge_runs(tmp_path)
    assert found.groups == ()
    assert sorted(group.sources[0].run for group in found.bottlenecks) == ["new", "other"]
    assert len({group.slug for group in found.bottlenecks}) == 2
    reasons = {left.run: left.reason for left in found.left_out}
    assert "new is the same, newer" in reasons["old"]
    assert "not finished" in reasons["open"]
    assert found.newest.startswith("2026-01-02")


def test_a_damaged_table_is_left_out_with_the_reason(tmp_path):
    write_bottleneck(tmp_path / "run")
    (tmp_path / "run" / "decisions.parquet").write_bytes(b"x")
    found = merge_runs(tmp_path)
    assert found.bottlenecks == ()
    assert "decisions.parquet is damaged" in found.left_out[0].reason


def test_the_sentences_are_the_tables_numbers(tmp_path):
    (group,) = merge_runs(write_bottleneck(tmp_path / "run")).bottlenecks
    said = " ".join(findings(group))
    assert "classifies 0.93 [0.83, 0.98] correctly, a dense layer on the network's features 0.90" in said
    assert "over the 2 perturbed conditions that becomes 0.43 and 0.40" in said
    assert "Under 1 of 4 conditions" in said
    assert "lowest under fog 3 (0.53)" in said
    assert "Under none of 4 conditions" in said
    assert "Most decisions flip under fog 3: 12 of 50, mostly because of circle (86%) and tree (29%)" in said
    assert "from the usual ones by the context concepts with 0.61" in said
    assert "A class rests on 1.5 of 2 concepts; a sparse layer on the features needs 5.5" in said


def test_blame_is_a_share_of_the_whole_change_of_margin(tmp_path):
    (group,) = merge_runs(write_bottleneck(tmp_path / "run")).bottlenecks
    own = of_condition(group.tables["concept_drift"], ("fog", 3))
    assert dict(blamed(own)) == pytest.approx({"circle": 3 / 3.5, "tree": 1 / 3.5})
    assert blamed(of_condition(group.tables["concept_drift"], ("unseen_background", 0))) == ()


def test_the_page_holds_every_head_concept_and_decision(tmp_path):
    page = page_of(write_bottleneck(tmp_path / "run"), tmp_path / "site")
    for text in ("unseen background", "fog 3", "circle", "wrong: plant", "NOT c1", "all others"):
        assert text in page
    # Two decisions that stay, and four flips, clean and perturbed.
    assert len(re.findall(r"<figcaption><b>", page)) == 2 + 2 * 4
    assert page.count("data:image/webp;base64,") == len(re.findall(r'<img src="data:image/webp', page)) > 0
    assert '<a href="../index.html">' in page
    index = (tmp_path / "site" / "index.html").read_text()
    assert 'href="tasks/toy-v1-miniature.html"' in index
    assert "There is no finished run" not in index


def test_no_text_can_act(tmp_path):
    words = {name: HOSTILE + name for name in ("circle", "tree", "shape", "plant", "c0", "a", "elephant", "toy_net")}
    page = page_of(write_bottleneck(tmp_path / "run", renamed=words), tmp_path / "site")
    assert "alert(&#34;x&#34;)" in page
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert not re.search(r"\sstyle=", page)
    assert not re.search(r"\son\w+=", page)


def test_bottlenecks_stand_beside_the_board_of_labels(tmp_path):
    write_bottleneck(tmp_path / "runs" / "bottleneck")
    write_run(tmp_path / "runs" / "labels", {"dnd": 0.5}, units=4, suites={"few": (("fog", 3),)}, thumbnails=False)
    board = build_board(merge_runs(tmp_path / "runs"))
    assert [standings.group.task for standings in board.standings] == ["toy_task"]
    assert set(as_frame(board)["task"]) == {"toy_task"}
    told = json.loads(json.dumps(as_json(board), allow_nan=False))
    (own,) = told["bottlenecks"]
    assert own["task"] == "toy"
    assert len(own["accuracy"]) == 16
    assert own["findings"] == list(findings(board.runs.bottlenecks[0]))
    first, second = tmp_path / "first", tmp_path / "second"
    for out in (first, second):
        write_site(board, out)
    assert {path.name for path in (first / "tasks").iterdir()} == {"toy-v1-miniature.html", "toy_task-v1-toy.html"}
    for path in first.rglob("*.html"):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()


def test_bars_share_a_zero_and_keep_their_proportions():
    low, high = ends_of([-1.0, 3.0])
    found = bars([("a", 3.0), ("b", -1.0), ("rest", 1.5)], low, high, last="rest")
    lengths = [one.length for one in found.bars]
    assert [one.kind for one in found.bars] == ["for", "against", "rest"]
    assert lengths[0] == pytest.approx(3 * lengths[1], abs=0.2)
    assert lengths[0] == pytest.approx(2 * lengths[2], abs=0.2)
    assert found.bars[0].start == found.zero
    assert found.bars[1].start + lengths[1] == pytest.approx(found.zero, abs=0.11)
    assert ends_of([]) == (0.0, 0.0)
    assert bars([("a", 0.0)], 0.0, 0.0).bars[0].length == 0.0


def test_a_task_page_has_its_analyses_and_is_silent_without(tmp_path):
    small = {"methods": {"dnd": 0.5}, "units": 4, "suites": {"few": (("fog", 3),)}, "thumbnails": False}
    write_run(tmp_path / "runs" / "with", **small)
    write_run(tmp_path / "runs" / "without", task="plain_task", **small)
    write_analyses(tmp_path / "runs" / "with")
    board = build_board(merge_runs(tmp_path / "runs"))
    write_site(board, tmp_path / "site")
    page, other = (
        (tmp_path / "site" / "tasks" / f"{slug}-v1-toy.html").read_text() for slug in ("toy_task", "plain_task")
    )
    for name in ("sensitivity", "tuning"):
        assert f'<h2 id="{name}">' in page
        assert f'href="#{name}"' in page
        assert f'id="{name}"' not in other
    group = next(group for group in board.runs.groups if group.task == "toy_task")
    units = group.tables["sensitivity"]
    for name, severity in conditions_of(units):
        own = units.loc[((units["perturbation"] == name) & (units["severity"] == severity)).to_numpy()]
        strongest = own.iloc[int(np.nanargmax(np.abs(own["auroc"] - 0.5)))]
        row = re.search(rf'<th scope="row" class="stick">{name} {severity}</th>(.*?)</tr>', page, re.S)
        assert row
        cells = re.findall(r'<td class="num">([^<]*)</td>', row.group(1))
        assert cells[1] == str(int(((own["p_corrected"] < 0.05) & (own["auroc"] >= 0.9)).sum()))
        assert cells[3:5] == [str(strongest["unit"]), f"{strongest['auroc']:.2f}"]
    arms = re.search(r"Share</th>(.*?)</tr>", page, re.S)
    assert arms
    shares = group.tables["tuning"].query("study == 'probing set'")["arm"].unique()
    assert re.findall(r">([^<]*)</th>", arms.group(1)) == list(shares)


def test_packed_runs_give_the_same_pages(tmp_path):
    write_bottleneck(tmp_path / "runs" / "bottleneck")
    write_run(tmp_path / "runs" / "labels")
    write_analyses(tmp_path / "runs" / "labels")
    pack_runs(tmp_path / "runs", tmp_path / "packed", units=3, images=2)
    whole, packed = (build_board(merge_runs(tmp_path / name)) for name in ("runs", "packed"))
    assert packed.runs.left_out == ()
    assert as_json(packed) == as_json(whole)
    for board, name in ((whole, "whole"), (packed, "small")):
        write_site(board, tmp_path / name)
    pages = [path.name for path in sorted((tmp_path / "whole" / "tasks").glob("*.html"))]
    assert len(pages) == 2
    for page in pages:
        assert (tmp_path / "whole" / "tasks" / page).read_text() == (tmp_path / "small" / "tasks" / page).read_text()
