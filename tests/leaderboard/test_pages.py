from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import io
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pytest
from small_runs import NOTE, STARTED, write_run
from typer.testing import CliRunner

from leaderboard.board import intervals
from leaderboard.board.build import Board, Row, Standing, Standings, Value, build_board
from leaderboard.board.merge import Runs, merge_runs
from leaderboard.cli import app
from leaderboard.pages import charts, write_site
from leaderboard.pages.board_files import as_frame
from leaderboard.pages.board_page import places
from leaderboard.pages.frame import Page, environment, number, policy, render
from leaderboard.pages.site import MANIFEST, board_csv
from leaderboard.store import escape
from leaderboard.store.errors import StoreError
from leaderboard.view import content
from leaderboard.view.findings import findings, findings_of_run
from leaderboard.view.words import MINUS, listed, percent

pytestmark = pytest.mark.usefixtures("few_resamples")

HOSTILE = json.loads((Path(__file__).parents[1] / "data" / "hostile_labels.json").read_text(encoding="utf-8"))
VOID = {"meta", "link", "br", "img", "input", "wbr", "hr", "path", "rect", "circle"}


class Dom(HTMLParser):
    """Elements with attributes, and the text of what a selector-like test asks for."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"doubled attribute in {tag}"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self._open), data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self) -> str:
        return "".join(data for where, data in self.texts if "script" not in where and "style" not in where)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    suites = {"gaussian_blur": (("gaussian_blur", 1), ("gaussian_blur", 5)), "fog": (("fog", 1), ("fog", 5))}
    seen = {"methods": {"dnd": {"tuned_on": ["fog"], "uses_perturbations": ["fog"]}}}
    write_run(root / "whole", suites=suites, units=8, comparisons=False, facts=seen)
    lacking = {"dnd": [("fog", 5)]}
    write_run(root / "holed", {"clip_dissect": 0.1, "dnd": 0.6, "random_label": 1.0}, False, task="other_task",
              suites=suites, units=8, lacking=lacking, comparisons=False)  # fmt: skip
    (root / "broken").mkdir()
    (root / "broken" / "run.json").write_text("{")
    return root


@pytest.fixture(scope="module")
def board(runs: Path) -> Board:
    return build_board(merge_runs(runs))


@pytest.fixture(scope="module")
def site(board: Board, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    write_site(board, out)
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Dom]:
    return {path.relative_to(site).as_posix(): Dom(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}


def _row(dom_text: str, **wanted: str) -> str:
    """The HTML of one row of the board."""
    for row in re.findall(r"<tr class=\"[^\"]*\" data-task=.*?</tr>", dom_text, re.S):
        if all(f'data-{name}="{value}"' in row for name, value in wanted.items()):
            return row
    raise AssertionError(f"no row {wanted}")


# ---- the whole site ----


def test_every_page_is_there(site: Path, pages: dict[str, Dom], board: Board) -> None:
    assert {"index.html", "search.html", "reading.html", "licences.html"} <= set(pages)
    for group in board.runs.groups:
        assert f"tasks/{group.slug}.html" in pages
        for unit in group.units:
            assert f"units/{group.slug}/{unit}.html" in pages
    assert json.loads((site / "board.json").read_text())["groups"]


def test_a_second_build_gives_the_same_bytes(board: Board, site: Path, tmp_path: Path) -> None:
    (tmp_path / "board").write_bytes(pickle.dumps(board))
    code = (
        "import pathlib, pickle, sys; from leaderboard.board import intervals; "
        "from leaderboard.pages import write_site; "
        f"intervals.RESAMPLES = {intervals.RESAMPLES}; root = pathlib.Path(sys.argv[1]);"
        "write_site(pickle.loads((root / 'board').read_bytes()), root / 'site')"
    )
    # Another process, with another order of sets.
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    tmp_path = tmp_path / "site"
    first = {path.relative_to(site).as_posix(): path.read_bytes() for path in site.rglob("*") if path.is_file()}
    second = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert first == second


def test_the_date_is_that_of_the_newest_run(site: Path) -> None:
    assert STARTED[:10] in (site / "index.html").read_text("utf-8")


def test_links_lead_to_files_and_places_that_are_there(site: Path, pages: dict[str, Dom]) -> None:
    ids = {path: {a["id"] for _, a in dom.elements if "id" in a} for path, dom in pages.items()}
    followed = 0
    for path, dom in pages.items():
        for link in dom.all("a"):
            target, _, place = link["href"].partition("#")
            where = (site / path).parent / target if target else site / path
            assert where.resolve().is_file(), f"{path}: {link['href']}"
            if place:
                assert place in ids[where.resolve().relative_to(site.resolve()).as_posix()], f"{path}: {link['href']}"
            followed += 1
    assert followed > 100


def test_no_id_is_given_twice(pages: dict[str, Dom]) -> None:
    for path, dom in pages.items():
        ids = [attributes["id"] for _, attributes in dom.elements if "id" in attributes]
        assert len(ids) == len(set(ids)), path


def test_nothing_is_loaded_from_anywhere(pages: dict[str, Dom]) -> None:
    for path, dom in pages.items():
        for tag, attributes in dom.elements:
            assert tag not in {"iframe", "object", "embed", "base", "form"}, path
            assert "style" not in attributes, f"{path}: a style attribute on {tag}"
            assert not [name for name in attributes if name.startswith("on")], f"{path}: {tag}"
            for name in ("src", "srcset", "action", "xlink:href"):
                assert attributes.get(name, "data:").startswith("data:"), f"{path}: {tag} {name}"
            if tag == "script":
                assert "src" not in attributes
            if tag == "link":
                assert attributes["href"] == "data:,"
            if tag == "a":
                assert not PurePosixPath(attributes["href"]).is_absolute()
                assert ":" not in attributes["href"], f"{path}: {attributes['href']}"


def test_the_policy_names_the_style_and_the_scripts_by_their_hashes(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text("utf-8")
        stated = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
        assert stated
        rules = stated.group(1).replace("&#39;", "'")
        assert rules.startswith("default-src 'none';")
        assert "unsafe" not in rules
        (style,) = re.findall(r"<style>(.*?)</style>", text, re.S)
        assert f"style-src '{_sha256(style)}'" in rules
        scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
        assert scripts
        assert f"script-src {' '.join(repr(_sha256(script)) for script in scripts)};" in rules


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_every_box_that_scrolls_can_be_reached_and_has_a_name(pages: dict[str, Dom]) -> None:
    for path, dom in pages.items():
        for tag, attributes in dom.elements:
            if "scroll" in attributes.get("class", "").split():
                assert attributes.get("tabindex") == "0", f"{path}: {tag}"
                assert attributes.get("role") == "region", f"{path}: {tag}"
                assert attributes.get("aria-label"), f"{path}: {tag}"


def test_the_profiles_note_stands_on_the_board_and_on_the_tasks(site: Path, board: Board) -> None:
    for path in ["index.html", *(f"tasks/{group.slug}.html" for group in board.runs.groups)]:
        assert NOTE in (site / path).read_text("utf-8")


# ---- what stays and what goes ----


def test_files_of_an_earlier_build_go_and_others_stay(board: Board, tmp_path: Path) -> None:
    write_site(board, tmp_path)
    (tmp_path / "tasks" / "mine.html").write_text("mine")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    left = Board(Runs(board.runs.groups[:1], ()), board.standings[:1])
    files = write_site(left, tmp_path)
    gone = board.runs.groups[1].slug
    assert not (tmp_path / "units" / gone).exists()
    assert not (tmp_path / "tasks" / f"{gone}.html").exists()
    assert (tmp_path / "tasks" / "mine.html").read_text() == "mine"
    assert (tmp_path / "notes" / "a.txt").exists()
    assert all(path.is_file() for path in files)


@pytest.mark.parametrize("name", ["../outside.txt", "/{root}/outside.txt", "linked/outside.txt"])
def test_a_manifest_cannot_lead_out_of_the_site(name: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    out = tmp_path / "site"
    out.mkdir()
    (out / "linked").symlink_to(tmp_path)
    (out / MANIFEST).write_text(json.dumps({"files": [name.replace("/{root}", str(tmp_path))]}))
    write_site(Board(Runs((), ()), ()), out)
    assert outside.read_text() == "mine"


def test_an_unreadable_manifest_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("[]")
    with pytest.raises(StoreError, match=r"cannot be read .* choose another --out"):
        write_site(Board(Runs((), ()), ()), tmp_path)


def test_no_run_gives_a_page_that_says_so(tmp_path: Path) -> None:
    write_site(Board(Runs((), ()), ()), tmp_path)
    assert "There is no finished run to show" in Dom((tmp_path / "index.html").read_text("utf-8")).text()


# ---- the board ----


def test_an_incomplete_row_has_no_mean_and_says_what_is_missing(site: Path) -> None:
    text = (site / "index.html").read_text("utf-8")
    row = _row(text, task="other_task", method="dnd", suite="all")
    assert "no fog 5" in row
    # Its number of units is no mean.
    assert not re.search(r"\d\.\d", Dom(row).text())
    assert 'data-last="2"' in row
    assert re.search(r"\d\.\d\d", Dom(_row(text, task="other_task", method="dnd", suite="gaussian_blur")).text())


def test_the_board_shows_what_the_rows_hold(site: Path, board: Board) -> None:
    text = (site / "index.html").read_text("utf-8")
    shown = 0
    for standings in board.standings:
        for row in standings.rows:
            html = _row(text, task=standings.group.task, method=row.method, suite=row.suite)
            for name in ("stability", "evidence_overlap", "sentence_similarity", "noise_floor", "chance", "mlce"):
                if name in row.values:
                    assert number(row.values[name].mean) in html
                    shown += 1
            if "accuracy" in row.values:
                assert (
                    f"{percent(row.values['accuracy_clean'].mean)} →</span> {percent(row.values['accuracy'].mean)}"
                    in html
                )
    assert shown > 50


def test_the_board_says_of_each_suite_what_the_method_has_seen(site: Path) -> None:
    text = (site / "index.html").read_text("utf-8")

    def said(method: str, suite: str) -> list[str]:
        row = _row(text, task="toy_task", method=method, suite=suite)
        return re.findall(rf"<td>{suite}<br><span class=\"range\">([^<]*)</span></td>", row)

    assert said("dnd", "fog") == ["tuned on: 1 of 1, used by the method: 1 of 1"]
    assert said("dnd", "all") == ["tuned on: 1 of 2, used by the method: 1 of 2"]
    assert said("dnd", "gaussian_blur") == said("clip_dissect", "fog") == ["never seen"]
    assert said("random_label", "fog") == []


def test_floors_and_incomplete_rows_stand_below_the_others_of_their_suite(site: Path) -> None:
    rows = re.findall(
        r'data-task="(\w+)" data-method="\w+" data-suite="(\w+)" data-last="(\d)"', (site / "index.html").read_text()
    )
    for place in {row[:2] for row in rows}:
        order = [row[2] for row in rows if row[:2] == place]
        assert order == sorted(order)


def test_left_out_runs_are_listed_with_their_reason(pages: dict[str, Dom]) -> None:
    text = pages["index.html"].text()
    assert re.search(r"broken: .*run\.json cannot be read", text)


def test_csv_cells_are_no_formulas(board: Board) -> None:
    frame = as_frame(board)
    frame.loc[0, "method"] = "=cmd()"
    frame.loc[1, "method"] = 'a,"b"\nc'
    rows = list(csv.DictReader(io.StringIO(board_csv(frame))))
    assert len(rows) == len(frame)
    assert rows[0]["method"] == "'=cmd()"
    assert rows[1]["method"] == 'a,"b" c'
    for row, wanted in zip(rows, frame["stability"].to_numpy(np.float64), strict=True):
        assert row["stability"] == "" if np.isnan(wanted) else float(row["stability"]) == wanted


# ---- findings ----


def _named(method: str, mean: float, letters: str, rank: int, floor: bool = False) -> Row:
    values = {"stability": Value(mean, mean - 0.05, mean + 0.05)}
    counts = {"units": 20, "dead": 0, "unnamed": 0, "distinct": 9, "known": 0}
    return Row(method, floor, "all", (), counts, values, {"stability": Standing(rank, letters)})


def _said(board: Board, rows: tuple[Row, ...]) -> str:
    nothing = pd.DataFrame(columns=board.standings[0].comparisons.columns)
    return " ".join(findings(dataclasses.replace(board.standings[0], rows=rows, comparisons=nothing)).sentences)


def test_a_leader_that_differs_significantly_is_named_with_its_distance(board: Board) -> None:
    said = _said(board, (_named("a", 0.9, "a", 1), _named("b", 0.6, "b", 2), _named("c", 0.5, "b", 2)))
    assert said.startswith("a has the highest mean stability under ")
    assert ": 0.90 [0.85, 0.95] over 20 units, significantly above every other method." in said
    assert "Significantly lower: b (0.60) and c (0.50); b by 0.30." in said


def test_a_tie_is_no_lead(board: Board) -> None:
    said = _said(board, (_named("a", 0.9, "a", 1), _named("b", 0.88, "a", 1), _named("c", 0.5, "b", 3)))
    assert "0.90 [0.85, 0.95] over 20 units, but does not differ significantly from b (0.88)" in said
    assert "Significantly lower: c (0.50), by 0.40." in said
    assert "significantly above" not in said


def test_a_method_no_better_than_a_trivial_baseline_is_named(board: Board) -> None:
    rows = (_named("a", 0.9, "a", 1), _named("b", 0.1, "b", 2), _named("random_label", 0.08, "b", 2, floor=True))
    assert "By stability, b is not significantly different from the trivial baseline random_label (0.08)." in _said(
        board, rows
    )
    worse = (_named("a", 0.1, "b", 2), _named("random_label", 0.4, "a", 1, floor=True))
    assert "By stability, a is significantly below the trivial baseline random_label (0.40)." in _said(board, worse)


def test_nothing_complete_is_said(board: Board) -> None:
    row = dataclasses.replace(_named("a", 0.9, "a", 1), missing=("only 4 of 48 units",), values={}, standings={})
    assert _said(board, (row,)) == (
        "No method has a complete result here yet, so none has a mean or a rank: only 4 of 48 units."
    )


def test_findings_name_no_mean_of_an_incomplete_method(board: Board) -> None:
    (standings,) = (s for s in board.standings if s.group.task == "other_task")
    said = [sentence for sentence in findings(standings).sentences if "dnd" in sentence]
    assert said == ["Without a rank, as incomplete: dnd (no fog 5)."]


def test_a_run_says_the_same_as_its_board(board: Board) -> None:
    standings = next(s for s in board.standings if len(s.complete) == len(s.group.methods))
    assert not standings.extra_conditions
    own = findings_of_run(standings.summary, standings.comparisons, standings.group.about_run)
    assert own[standings.group.task] == findings(standings)


def test_a_method_that_failed_somewhere_in_a_run_has_no_mean_in_the_findings(board: Board) -> None:
    standings = next(s for s in board.standings if len(s.complete) == len(s.group.methods))
    lead, (name, severity) = standings.rivals[0].method, standings.group.conditions[0]
    summary = standings.summary
    gap = summary["method"].eq(lead) & summary["perturbation"].eq(name) & summary["severity"].eq(str(severity))
    rest = summary.loc[~gap.to_numpy()]
    found = findings_of_run(rest, standings.comparisons, standings.group.about_run)[standings.group.task]
    assert not any(lead in sentence for sentence in (*found.stability, *found.accuracy))
    assert f"Without a rank, as incomplete: {lead} (no {name} {severity})." in found.baselines


def test_places_are_all_that_the_data_leave_open() -> None:
    rows = (_named("a", 0.9, "a", 1), _named("b", 0.8, "ab", 1), _named("c", 0.7, "b", 2), _named("d", 0.1, "c", 4))
    assert [places(row, rows) for row in rows] == ["1–2", "1–3", "2–3", "4"]
    unranked = dataclasses.replace(rows[0], standings={})
    assert places(unranked, rows) == ""


def test_lists_read_like_english() -> None:
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


# ---- task pages ----


def _stabilities(standings: Standings) -> dict[tuple[str, str, str], float]:
    """(Method, perturbation, severity) → mean."""
    rows = standings.summary.to_dict("records")
    return {(row["method"], row["perturbation"], row["severity"]): row["stability"] for row in rows}


def test_curves_say_in_words_what_they_show(site: Path, board: Board) -> None:
    (standings,) = (s for s in board.standings if s.group.task == "toy_task")
    text = (site / "tasks" / f"{standings.group.slug}.html").read_text("utf-8")
    drawn = re.findall(r'<svg class="panel" role="img"[^>]*aria-labelledby="(\S+) (\S+)">\s*<title id="(\S+)">', text)
    # The mean, and two perturbations, by stability and by accuracy.
    assert len(drawn) == 6
    assert all(label == title for label, _, title in drawn)
    summary = _stabilities(standings)
    start, end = (number(summary["dnd", "fog", severity]) for severity in ("1", "5"))
    assert re.search(
        rf'<desc id="stability-fog-d">From severity 1 to 5: [^<]*dnd (falls|rises|stays) from {start} to {end}', text
    )


def test_the_mean_curve_is_the_mean_over_perturbations(site: Path, board: Board) -> None:
    (standings,) = (s for s in board.standings if s.group.task == "toy_task")
    text = (site / "tasks" / f"{standings.group.slug}.html").read_text("utf-8")
    summary = standings.summary
    chosen = summary.loc[summary["method"].eq("dnd") & summary["severity"].eq("5") & summary["perturbation"].ne("all")]
    said = re.search(r'<desc id="stability-all-d">[^<]*dnd \w+ from \S+ to (\d\.\d\d)', text)
    assert said
    assert float(said.group(1)) == pytest.approx(chosen["stability"].mean(), abs=0.0051)


def test_heat_cells_are_means_of_the_summary(site: Path, board: Board) -> None:
    (standings,) = (s for s in board.standings if s.group.task == "toy_task")
    text = (site / "tasks" / f"{standings.group.slug}.html").read_text("utf-8")
    heat = re.search(r'<table class="heat">.*?</table>', text, re.S)
    assert heat
    summary = _stabilities(standings)
    row = re.search(r">fog</th>(.*?)</tr>", heat.group(), re.S)
    assert row
    shown = re.findall(r">(\S+)</td>", row.group(1))
    assert shown[:-1] == [number(summary[method, "fog", "all"]) for method in standings.group.methods]


def test_a_heat_cell_of_an_unfinished_perturbation_is_empty(site: Path, board: Board) -> None:
    (group,) = (g for g in board.runs.groups if g.task == "other_task")
    text = (site / "tasks" / f"{group.slug}.html").read_text("utf-8")
    row = re.search(r">fog</th>(.*?)</tr>", text[text.index('class="heat"') :], re.S)
    assert row
    assert re.findall(r">(\S+)</td>", row.group(1))[group.methods.index("dnd")] == "–"


def test_outcomes_are_the_four_verdicts(site: Path, board: Board) -> None:
    (standings,) = (s for s in board.standings if s.group.task == "toy_task")
    scores = standings.group.scores
    rows = scores.loc[scores["method"].eq("dnd") & scores["severity"].gt(0) & ~scores["dead"]]
    both = (rows["right_clean"] & rows["right"]).mean()
    text = (site / "tasks" / f"{standings.group.slug}.html").read_text("utf-8")
    row = re.search(r"<tr><th[^>]*>dnd</th><td>\s*<svg class=\"outcome\".*?</tr>", text, re.S)
    assert row
    assert re.findall(r">(\d+ %)<", row.group())[0] == percent(both)
    (other,) = (g for g in board.runs.groups if g.task == "other_task")
    assert 'id="outcomes"' not in (site / "tasks" / f"{other.slug}.html").read_text("utf-8")


# ---- charts and colours ----


def test_bars_keep_their_place_on_the_scale() -> None:
    middle = charts.bar(Value(0.5, 0.25, 0.75))
    assert middle.zero < middle.low < middle.mean < middle.high
    assert middle.mean == pytest.approx((middle.low + middle.high) / 2)
    assert charts.bar(Value(2.0)).mean == charts.bar(Value(1.0)).mean
    alone = charts.bar(Value(0.3))
    assert alone.low == alone.mean == alone.high


def test_scales_hold_every_value() -> None:
    assert charts.scale_from([Value(0.3, 0.1, 0.5)]) == 0.0
    assert charts.scale_from([Value(0.3, -0.1, 0.5), Value(0.1)]) == -0.1
    assert charts.scale_from([]) == 0.0


def test_shades_are_steps_of_the_scale() -> None:
    values = np.linspace(-0.2, 1.0, 50)
    steps = [charts.shade(float(value)) for value in values]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, charts.STEPS - 1)
    assert set(steps) == set(range(charts.STEPS))


def test_no_two_of_the_first_eight_methods_look_alike() -> None:
    floors = ["random_label", "constant_label"]
    styles = charts.styles_of([f"method_{i}" for i in range(6)] + floors, floors)
    assert len({style.number for style in styles}) == 8
    assert [style.kind for style in styles[-2:]] == ["floor", "floor"]
    assert len({charts.marker(style.number, 5, 5) for style in styles}) == 8


def _schemes() -> Iterator[dict[str, str]]:
    css = (Path(charts.__file__).parent / "assets" / "style.css").read_text("utf-8")
    light, dark = css.split("@media (prefers-color-scheme: dark)")[:2]
    first = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light))
    yield first
    yield {**first, **dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", dark[: dark.index("\n}\n")]))}


def _contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", list(_schemes()), ids=["light", "dark"])
def test_text_and_marks_have_enough_contrast(colours: dict[str, str]) -> None:
    """WCAG 2.2, 1.4.3 and 1.4.11."""
    for step in range(charts.STEPS):
        assert _contrast(colours[f"h{step}"], colours[f"h{step}-ink"]) >= 4.5
    for name in ("ink", "soft", "link", "good", "bad", "floor"):
        assert _contrast(colours[name], colours["paper"]) >= 4.5, name
    for name in (*(f"s{i}" for i in range(charts.COLOURS)), "strong-line", "focus"):
        assert _contrast(colours[name], colours["paper"]) >= 3.0, name
    for name in ("ink", "soft", "link"):
        assert _contrast(colours[name], colours["mark"]) >= 4.5, name


# ---- text from runs ----


def test_hostile_text_is_text_everywhere(tmp_path: Path) -> None:
    texts = [text for text in HOSTILE if len(text) < 500]
    suites = {"fog": (("fog", 3),)}
    # As the store keeps them: a lone surrogate has no UTF-8 form.
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    words = [text for text in texts if escape.plain(text).strip()]
    method = '"><script>alert(1)</script>'
    about = {"description": "</title><script>alert(2)</script>", "citation": "' onmouseover='alert(3)"}
    run = write_run(
        tmp_path / "runs" / "a", {method: 0.5, "dnd": 0.5}, suites=suites, words=words, units=len(words) + 1,
        comparisons=False, note="<img src=x onerror=alert(4)>", thumbnails=False, about=about,
    )  # fmt: skip
    board = build_board(merge_runs(run))
    out = tmp_path / "site"
    write_site(board, out)
    plain_scripts = Dom(
        render(Page("x.html", "reading.html.jinja", {"measures": [], "faithful": [], "reference": "x"}))
    )
    for path in out.rglob("*.html"):
        dom = Dom(path.read_text("utf-8"))
        run_scripts = [a for a in dom.all("script") if a.get("type") != "application/json"]
        assert len(run_scripts) == len(plain_scripts.all("script")), path
        assert not [a for _, a in dom.elements if any(name.startswith("on") for name in a)], path
        assert not [tag for tag, _ in dom.elements if tag in {"iframe", "form", "base"}], path
    (group,) = board.runs.groups
    index, task = (Dom((out / path).read_text("utf-8")) for path in ("index.html", f"tasks/{group.slug}.html"))
    for dom in (index, task):
        assert method in dom.text()
        assert "<img src=x onerror=alert(4)>" in dom.text()
    assert [row["data-method"] for row in index.all("tr") if "data-method" in row].count(method) == 1
    shown = task.text()
    for word in words[: len(group.units) - 1]:
        assert escape.plain(word) in shown


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_the_frame_prints_plain_text(text: str) -> None:
    html = (
        environment().from_string('<p title="{{ text }}">{{ text }}</p><i>{{ text|breakable }}</i>').render(text=text)
    )
    dom = Dom(html)
    assert dom.text() == 2 * escape.plain(text)
    assert dom.all("p") == [{"title": escape.plain(text)}]
    assert {tag for tag, _ in dom.elements} <= {"p", "i", "wbr"}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_table_is_plain_text_wherever_it_has_words(text: str) -> None:
    cells = (content.Cell(text=text or "–"), content.Cell(-0.5, -0.75, 0.25, marked=True, best=True))
    section = content.Section((content.Row(text, cells),), text)
    parts = ("any", "task", "profile", text, "", True, text, (text, "number"), (section,), (text, "known"))
    source = '{% from "tables.jinja" import view_table %}{{ view_table(table, ["known"]) }}'
    dom = Dom(environment().from_string(source).render(table=content.Table(*parts)))
    ours = {"h3", "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "span", "p", "wbr"}
    assert {tag for tag, _ in dom.elements} <= ours
    assert dom.text().count(escape.plain(text)) >= 7
    assert f"{MINUS}0.50* [{MINUS}0.75, 0.25]" in dom.text()
    assert "known" not in dom.text()


def test_a_template_stops_at_what_it_was_not_given() -> None:
    with pytest.raises(Exception, match="'label' is undefined"):
        environment().from_string("{{ label }}").render()
    with pytest.raises(TypeError, match="prints None"):
        environment().from_string("{{ label }}").render(label=None)


def test_numbers_are_rounded_for_readers() -> None:
    assert [number(value) for value in (0.126, -0.126, -0.001, 0.0, math.nan, None)] == [
        "0.13", "\u22120.13", "0.00", "0.00", "–", "–",
    ]  # fmt: skip
    assert [percent(value) for value in (0.126, math.nan)] == ["13 %", "–"]


# ---- the command ----


def test_the_command_builds_and_says_what_it_did(
    runs: Path, board: Board, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderboard.board.build.build_board", lambda _: board)
    result = CliRunner().invoke(app, ["build", "--runs", str(runs), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "other_task (toy): 2 of 3 methods complete, from holed" in result.output
    assert "skipped broken: " in result.output
    assert f"wrote {sum(path.is_file() for path in site.rglob('*'))} files" in result.output
    assert (tmp_path / "out" / "index.html").read_bytes() == (site / "index.html").read_bytes()


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["build", "--runs", str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "There is no folder" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_the_policy_is_one_for_all_pages() -> None:
    assert policy().count("sha256-") == 1 + len(list((Path(charts.__file__).parent / "assets").glob("*.js")))


def test_a_site_can_be_moved(site: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(site, moved)
    for path in moved.rglob("*.html"):
        assert str(site) not in path.read_text("utf-8")
