"""Unit pages and the list of all labels: their data against pandas, and what their HTML holds."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from small_runs import write_run

from leaderboard.board.build import Board
from leaderboard.board.facts import RunFacts
from leaderboard.board.merge import Group, merge_runs
from leaderboard.board.pack import pack_runs
from leaderboard.pages.frame import render
from leaderboard.pages.search import TRUTH, entries, folded, search_page
from leaderboard.pages.unit_pages import LONG, overview, unit_pages
from leaderboard.pages.units import Unit, shown_conditions, units_of
from leaderboard.store import escape
from leaderboard.store.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("few_resamples")

HOSTILE = json.loads((Path(__file__).parents[1] / "data" / "hostile_labels.json").read_text(encoding="utf-8"))


class _Text(HTMLParser):
    """The text of every ``bdi``, and the names of all elements and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "bdi":
            self._inside = True
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "bdi"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[-1] += data


def _board(path: Path, **kwargs) -> Board:
    write_run(path / "run", **{"comparisons": False, **kwargs})
    return Board(merge_runs(path), ())


def _readable(board: Board) -> set[str]:
    """What a reader may see of the labels that the store took."""
    labels = {escape.plain(label) for label in board.runs.groups[0].scores["label"].dropna()}
    assert len(labels) > 80
    return {label for label in labels if label.strip()}


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Board:
    return _board(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def group(board) -> Group:
    return board.runs.groups[0]


@pytest.fixture(scope="module")
def units(group) -> list[Unit]:
    return list(units_of(group))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Board:
    # Under fog every unit gets the word after the next few, so that every word is a label.
    suites = {"fog": (("fog", 5),)}
    methods = {"clip_dissect": 0.0, "dnd": 1.0}
    path = tmp_path_factory.mktemp("hostile")
    return _board(path, units=len(HOSTILE), dead=0, words=HOSTILE, suites=suites, methods=methods)


def test_a_verdict_is_what_pandas_makes_of_the_scores(group, units):
    scores = group.scores
    perturbed = scores[(scores["severity"] > 0) & (scores["repeat"] == 0)]
    assert [unit.number for unit in units] == list(group.units)
    for unit in units:
        assert [verdict.method for verdict in unit.verdicts] == list(group.methods)
        for verdict in unit.verdicts:
            rows = perturbed[(perturbed["unit"] == unit.number) & (perturbed["method"] == verdict.method)]
            if unit.dead:
                assert verdict.stability is None
                assert verdict.judged == verdict.right == 0
                assert not verdict.candidates
                continue
            assert verdict.stability == pytest.approx(rows["stability"].astype(float).mean())
            assert verdict.stable_over == len(rows) == len(group.conditions)
            assert (verdict.right, verdict.judged) == (rows["right"].sum(), len(rows))
            assert verdict.right_clean == rows["right_clean"].iloc[0]
            assert verdict.floor == (verdict.method in ("random_label", "constant_label"))
            best = rows["clean_label"].iloc[0]
            assert [c.label for c in verdict.candidates] == [best, f"{best} or so"]
            assert [c.score for c in verdict.candidates] == [0.75, 0.5]


def test_faithfulness_is_that_of_the_clean_label(group, units):
    table = group.tables["faithfulness"].set_index(["method", "unit"])
    unit = units[3]
    for verdict in unit.verdicts:
        row = table.loc[(verdict.method, unit.number)]
        assert verdict.faithfulness == {name: row[name] for name in ("cosy_auc", "f1", "iou", "correlation", "auprc")}


def test_a_view_shows_the_labels_and_the_evidence_of_its_condition(group, units):
    scores, evidence = group.scores, group.tables["evidence"]
    for unit in (units[0], units[7]):
        assert [name for name in unit.views] == ["gaussian_blur", "fog"]
        clean = evidence[(evidence["unit"] == unit.number) & (evidence["perturbation"] == "clean")]
        ranks = dict(zip(clean["image"], clean["rank"], strict=True))
        for name, views in unit.views.items():
            assert [view.severity for view in views] == [1, 3, 5]
            for view in views:
                here = (scores["perturbation"] == name) & (scores["severity"] == view.severity)
                rows = scores[here & (scores["unit"] == unit.number)].set_index("method")
                for naming in view.namings:
                    row = rows.loc[naming.method]
                    assert (naming.label, naming.stability) == (row["label"], row["stability"])
                    assert (naming.right, naming.moved) == (row["right"], row["label"] != row["clean_label"])
                assert view.overlap == rows["evidence_overlap"].iloc[0]
                here = (evidence["perturbation"] == name) & (evidence["severity"] == view.severity)
                top = evidence[here & (evidence["unit"] == unit.number)].sort_values("rank")
                assert [picture.image for picture in view.pictures] == top["image"].tolist()
                assert [p.clean_rank for p in view.pictures] == [ranks.get(image) for image in top["image"]]


def test_pictures_are_those_of_the_condition_and_only_of_one_severity(group, units):
    webp = group.tables["thumbnails"].set_index(["perturbation", "severity", "image"])["webp"]
    for view in (units[2].clean, *(view for views in units[2].views.values() for view in views)):
        assert view.shown == (view.severity in (0, 3))
        for picture in view.pictures:
            data = base64.b64decode(picture.uri.removeprefix("data:image/webp;base64,"))
            assert data == (webp[view.perturbation, view.severity, picture.image] if view.shown else b"")


def test_one_severity_a_perturbation_stands_for_it():
    ran = [("fog", 1), ("fog", 3), ("fog", 5), ("snow", 2), ("snow", 4)]
    assert shown_conditions(ran, [("fog", 5), ("snow", 2), ("snow", 4)]) == {("clean", 0), ("fog", 5), ("snow", 2)}
    assert shown_conditions(ran, []) == {("clean", 0), ("fog", 3), ("snow", 2)}


def test_the_overview_has_a_square_for_every_label(group, units):
    unit = units[1]
    lines = overview(unit, group.methods, RunFacts())
    assert [line.name for line in lines] == ["clean, other seed", "gaussian_blur", "fog"]
    assert [line.begins for line in lines] == [False, True, True]
    for line in lines[1:]:
        for cell, method in zip(line.cells, group.methods, strict=True):
            assert len(cell.squares) == 3
            views = unit.views[line.name]
            namings = [next(n for n in view.namings if n.method == method) for view in views]
            assert [square.mark == "right" for square in cell.squares] == [bool(n.right) for n in namings]
            assert all(square.shade is not None for square in cell.squares)
            assert cell.words.startswith("severity 1: ")


def test_what_a_method_did_not_run_is_said(tmp_path):
    board = _board(tmp_path, lacking={"dnd": [("fog", 5)]}, units=4)
    unit = next(units_of(board.runs.groups[0]))
    fog = overview(unit, ["clip_dissect", "dnd"], RunFacts())[-1]
    assert fog.cells[1].words.endswith("severity 5: not run")
    assert fog.cells[1].squares[2].shade is None
    dnd = next(verdict for verdict in unit.verdicts if verdict.method == "dnd")
    assert (dnd.stable_over, dnd.judged) == (5, 5)


def test_every_unit_has_a_page_that_leads_to_its_neighbours(board, group):
    pages = {page.path: render(page) for page in unit_pages(board)}
    assert set(pages) == {f"units/{group.slug}/{name}.html" for name in (*group.units, "index")}
    first, last = (pages[f"units/{group.slug}/{number}.html"] for number in (group.units[0], group.units[-1]))
    assert 'rel="next" href="1.html"' in first
    assert 'rel="prev"' not in first
    assert 'rel="next"' not in last
    assert "This unit is dead" in last
    for number in group.units:
        assert f'<a href="{number}.html">' in pages[f"units/{group.slug}/index.html"]


def test_pages_are_the_same_twice(tmp_path, board):
    again = _board(tmp_path)
    first = [render(page) for page in (*unit_pages(board), search_page(board))]
    assert first == [render(page) for page in (*unit_pages(again), search_page(again))]


def test_a_run_without_pictures_and_truth_says_so(tmp_path):
    board = _board(tmp_path, thumbnails=False, truth=False, units=3)
    page = render(next(unit_pages(board)))
    assert "The run kept no pictures here." in page
    assert "probe-00000" in page
    assert "<img" not in page
    assert ">wrong<" not in page
    assert "not known" in page


def test_no_condition_at_all_still_makes_a_page(tmp_path):
    board = _board(tmp_path, suites={}, units=3)
    page = render(next(unit_pages(board)))
    assert "red fish" in page


def test_hostile_labels_are_text(hostile, board):
    shown: set[str] = set()
    usual = {tag for page in (*unit_pages(board), search_page(board)) for tag in _Text(render(page)).tags}
    for page in (*unit_pages(hostile), search_page(hostile)):
        read = _Text(render(page))
        shown |= set(read.texts)
        assert not {name for name in read.attributes if name.startswith("on") or name == "style"}
        assert read.tags <= {*usual, "bdi", "details", "summary"}
    assert _readable(hostile) <= shown


def test_an_unreadable_label_is_no_label(hostile):
    blank = next(i for i, label in enumerate(HOSTILE) if i % 2 and not escape.plain(label).strip())
    page = next(p for p in unit_pages(hostile) if p.path.endswith(f"/{blank}.html"))
    assert '<span class="soft">no label</span>' in render(page)
    assert all(entry.label.strip() for entry in entries(hostile))


def test_a_long_label_is_folded_and_whole(hostile):
    long = max(_readable(hostile), key=len)
    assert len(long) > 1000
    page = render(search_page(hostile))
    assert f"<summary><bdi>{long[: LONG - 40]}</bdi>…</summary><bdi>{long}</bdi></details>" in page


def test_the_list_holds_every_label_of_every_method(board, group):
    scores = group.scores
    rows = scores[
        (scores["repeat"] == 0) & scores["label"].notna() & ~scores["method"].isin(["random_label", "constant_label"])
    ]
    found = entries(board)
    methods = [entry for entry in found if entry.method != TRUTH]
    assert {(e.method, e.label) for e in methods} == set(zip(rows["method"], rows["label"], strict=True))
    for entry in methods:
        own = rows[(rows["method"] == entry.method) & (rows["label"] == entry.label)]
        clean, moved = own[own["perturbation"] == "clean"], own[own["perturbation"] != "clean"]
        assert entry.clean == tuple(sorted(clean["unit"]))
        assert entry.conditions == len(set(zip(moved["perturbation"], moved["severity"], strict=True)))
        only = moved[~moved["unit"].isin(clean["unit"])]
        assert dict(entry.perturbed) == only["unit"].value_counts().to_dict()
    truths = {entry.label: entry.clean for entry in found if entry.method == TRUTH}
    assert truths == {t: tuple(sorted(set(part["unit"]))) for t, part in scores.groupby("truth")}
    assert found == sorted(found, key=lambda entry: folded(entry.label))


def test_folding_drops_case_and_accents():
    assert folded("Crème BRÛLÉE ﬁsh") == "creme brulee fish"


def test_links_of_the_list_lead_to_unit_pages(board):
    paths = {page.path for page in unit_pages(board)}
    html = render(search_page(board))
    links = [part.split('"')[0] for part in html.split('href="')[1:] if part.startswith("units/")]
    assert links
    assert set(links) <= paths


def test_a_very_large_list_counts_perturbed_units(board, monkeypatch):
    monkeypatch.setattr("leaderboard.pages.search.LINKS", 0)
    html = render(search_page(board))
    assert "×" not in html.split('id="label-index"')[1].split("<script>")[0]
    assert "are counted" in html


def test_a_packed_run_says_where_it_kept_no_images(tmp_path):
    write_run(tmp_path / "runs" / "run", comparisons=False)
    pack_runs(tmp_path / "runs", tmp_path / "packed", units=2, images=3)
    units = list(units_of(merge_runs(tmp_path / "packed").groups[0]))
    pictured = [unit.number for unit in units if unit.clean.pictures]
    assert len(pictured) == 2
    assert [unit.ranked for unit in units if unit.clean.pictures] == [3, 3]
    page = next(p for p in unit_pages(Board(merge_runs(tmp_path / "packed"), ())) if p.path.endswith("/1.html"))
    assert 1 not in pictured
    assert "No top images are kept for this unit." in render(page)


def test_what_a_unit_depends_on_is_said_of_the_method_that_says_it(tmp_path):
    write_run(tmp_path / "run", comparisons=False, units=3)
    place = {"task": "toy_task", "profile": "toy", "method": "dnd", "severity": 0, "repeat": 0, "unit": 1}
    rows = [
        {"perturbation": "clean", "part": "", "foreground": 0.75, "background": None, "context": 0.5},
        {"perturbation": "clean", "part": "red", "foreground": 1.0, "background": 1.0, "context": None},
        {"perturbation": "fog", "severity": 3, "part": "", "foreground": 0.1, "background": 0.1, "context": 0.1},
    ]
    folder = RunFolder(tmp_path / "run")
    folder.write_table("dependence", pd.DataFrame([place | row for row in rows]))
    pack_runs(tmp_path / "run", tmp_path / "packed")
    for path in (tmp_path / "run", tmp_path / "packed"):
        board = Board(merge_runs(path), ())
        units = list(units_of(board.runs.groups[0]))
        said = {v.method: v.dependence for v in units[1].verdicts}
        assert said["dnd"] == {"foreground": 0.75, "context": 0.5}
        assert not any(found for method, found in said.items() if method != "dnd")
        assert not any(verdict.dependence for verdict in units[0].verdicts)
        page = next(page for page in unit_pages(board) if page.path.endswith("/1.html"))
        assert "depends on foreground 0.75, context 0.50" in render(page)
