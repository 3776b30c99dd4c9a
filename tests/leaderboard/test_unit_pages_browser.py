"""Unit pages and the label search in a real browser: Debian's chromium, no network, hostile labels."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import write_run

from leaderboard.board.build import Board
from leaderboard.board.merge import merge_runs
from leaderboard.pages.frame import render
from leaderboard.pages.search import entries, search_page
from leaderboard.pages.unit_pages import unit_pages
from leaderboard.store import escape

pytestmark = pytest.mark.usefixtures("few_resamples")

playwright = pytest.importorskip("playwright.sync_api")

HOSTILE = json.loads((Path(__file__).parents[1] / "data" / "hostile_labels.json").read_text(encoding="utf-8"))
ARABIC = "سمكة حمراء"
STACKED = "z" + "\u0334\u0300\u0301\u0302\u0303" * 12 + "algo"
WORDS = ("red fish", "Fish, RED", "crème brûlée", ARABIC, STACKED, *HOSTILE)


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Board:
    path = tmp_path_factory.mktemp("runs")
    suites = {"fog": (("fog", 3), ("fog", 5)), "gaussian_blur": (("gaussian_blur", 3),)}
    write_run(
        path / "run",
        units=len(WORDS),
        words=WORDS,
        suites=suites,
        methods={"clip_dissect": 0.0, "dnd": 1.0},
        comparisons=False,
    )
    return Board(merge_runs(path), ())


@pytest.fixture(scope="module")
def site(board, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    for page in (*unit_pages(board), search_page(board)):
        path = out / page.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(page), encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator:
    chromium = shutil.which("chromium")
    if not chromium:
        reason = "there is no chromium: install Debian's"
        pytest.fail(reason) if os.environ.get("CLEAR_REQUIRE_BROWSER") else pytest.skip(reason)
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def open_page(browser, site):
    """Opens pages; at the end none may have complained, or asked for anything but itself."""
    contexts, complaints = [], []

    def opened(path: str, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: _foreign(request.url, site) and complaints.append(request.url))
        page.goto(f"{site.as_uri()}/{path}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not complaints


def _foreign(url: str, site: Path) -> bool:
    return not url.startswith((site.as_uri(), "data:image/webp;base64,", "data:,"))


def _shown(page) -> list[str]:
    return page.locator("#label-index > li:visible .what > .label").all_text_contents()


def _sideways(page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_typing_narrows_the_list(open_page, board):
    page = open_page("search.html")
    total = len(entries(board))
    status = page.get_by_role("status")
    playwright.expect(status).to_have_text(f"{total} entries")
    page.get_by_role("searchbox").focus()
    page.keyboard.type("ReD fish")
    playwright.expect(status).to_have_text(f"{len(_matching(board, 'red', 'fish'))} of {total} entries")
    assert set(_shown(page)) == {"red fish", "Fish, RED"}
    # The next stop of the keyboard is the first unit that is shown.
    page.keyboard.press("Tab")
    href = page.evaluate("document.activeElement.getAttribute('href')")
    assert page.locator("#label-index > li:visible a").first.get_attribute("href") == href
    page.keyboard.press("Enter")
    page.wait_for_url("**/units/**")


def _matching(board: Board, *words: str) -> list:
    return [entry for entry in entries(board) if all(word in entry.label.lower() for word in words)]


def test_accents_and_case_do_not_matter(open_page):
    page = open_page("search.html")
    page.get_by_role("searchbox").fill("BRULEE creme")
    playwright.expect(page.get_by_role("status")).to_contain_text(" of ")
    assert set(_shown(page)) == {"crème brûlée"}


def test_methods_and_truths_are_found(open_page, board):
    page = open_page("search.html#q=red%20fish%20dnd")
    assert len(_shown(page)) == sum(entry.method == "dnd" for entry in _matching(board, "red", "fish"))
    # Two words of the same letters, "red fish" and "Fish, RED", are true concepts.
    page.get_by_role("searchbox").fill("true concept red fish")
    playwright.expect(page.get_by_role("status")).to_contain_text("2 of")


def test_no_match_says_so_and_escape_brings_all_back(open_page, board):
    page = open_page("search.html")
    box = page.get_by_role("searchbox")
    box.fill("no such label anywhere")
    playwright.expect(page.get_by_text("No label matches.")).to_be_visible()
    box.press("Escape")
    playwright.expect(page.get_by_role("status")).to_have_text(f"{len(entries(board))} entries")
    playwright.expect(page.get_by_text("No label matches.")).to_be_hidden()


def test_a_query_can_be_linked(open_page):
    page = open_page("search.html#q=red%20fish")
    assert page.get_by_role("searchbox").input_value() == "red fish"
    assert set(_shown(page)) == {"red fish", "Fish, RED"}
    page.get_by_role("searchbox").fill("crème + 100 % & so")
    page.wait_for_url(re.compile("100"))
    again = open_page(page.url.rsplit("/", 1)[1])
    assert again.get_by_role("searchbox").input_value() == "crème + 100 % & so"
    # A link inside the page leaves the query alone.
    again.evaluate("location.hash = '#main'")
    assert again.get_by_role("searchbox").input_value() == "crème + 100 % & so"


@pytest.mark.parametrize(
    "query",
    [
        "%3Cimg%20src=x%20onerror=alert(1)%3E",
        "%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
        "%E0%A4%A",
        "javascript:alert(1)&q=2",
        "%00%ff",
        "x" * 5000,
        "(((%5B*%5C",
    ],
)
def test_a_hostile_query_is_text(open_page, query):
    page = open_page(f"search.html#q={query}")
    playwright.expect(page.get_by_role("status")).to_contain_text("entries")
    assert len(page.get_by_role("searchbox").input_value()) <= 200
    assert page.locator("main img, main script").count() == 0


def test_without_script_the_whole_list_is_there(open_page, board):
    page = open_page("search.html", java_script_enabled=False)
    assert page.locator("#label-index > li:visible").count() == len(entries(board))
    assert not page.get_by_role("searchbox").is_visible()


def test_hostile_labels_are_shown_as_text(open_page, board):
    page = open_page("search.html")
    texts = page.eval_on_selector_all(
        "#label-index .what", "all => all.map(e => e.querySelector('details > bdi, .label').textContent)"
    )
    assert sorted(texts) == sorted(entry.label for entry in entries(board))
    group = board.runs.groups[0]
    stored = group.scores[(group.scores["method"] == "dnd") & (group.scores["severity"] == 5)]
    for unit in range(5, len(WORDS) - 1, 16):
        page = open_page(f"units/{group.slug}/{unit}.html")
        label = escape.plain(stored[stored["unit"] == unit]["label"].iloc[0])
        cells = page.locator("#fog ~ details").nth(1).locator("tbody tr").nth(1).locator("td").first
        shown = cells.evaluate("cell => cell.querySelector('details > bdi, .label')?.textContent ?? 'no label'")
        assert shown == (label if label.strip() else "no label")


@pytest.mark.parametrize("width", [360, 1280])
def test_no_label_makes_a_page_scroll_sideways(open_page, board, width):
    slug = board.runs.groups[0].slug
    long = max(range(len(WORDS)), key=lambda unit: len(WORDS[unit]))
    paths = ["search.html", f"units/{slug}/index.html", *(f"units/{slug}/{unit}.html" for unit in (0, long, long - 6))]
    for path in paths:
        page = open_page(path, viewport={"width": width, "height": 800})
        assert _sideways(page) == 0, path
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert _sideways(page) == 0, path


def test_a_label_never_reaches_into_its_neighbours(open_page, board):
    page = open_page("search.html")
    # Stacked accents are taller than their line.
    stacked = page.locator("#label-index .what bdi", has_text="algo").first
    assert stacked.evaluate("e => getComputedStyle(e).overflowY") == "clip"
    # Right-to-left text is isolated: the method still begins where it does on every other line.
    arabic = page.locator("#label-index > li", has_text=ARABIC).first
    assert arabic.locator("bdi").first.evaluate("e => getComputedStyle(e).unicodeBidi") == "isolate"
    first = page.locator("#label-index > li .who").first.bounding_box()
    assert arabic.locator(".who").bounding_box()["x"] == first["x"]


def test_the_standard_severity_is_open_and_the_others_are_within_reach(open_page, board):
    page = open_page(f"units/{board.runs.groups[0].slug}/6.html", java_script_enabled=False)
    details = page.locator("#fog ~ details")
    assert [part.get_attribute("open") is not None for part in details.all()] == [True, False]
    details.nth(1).locator("summary").focus()
    page.keyboard.press("Enter")
    playwright.expect(details.nth(1).locator("table")).to_be_visible()
    playwright.expect(details.nth(1).get_by_text("Pictures are shown at another severity.")).to_be_visible()


def test_pictures_load_and_have_alternative_text(open_page, board):
    page = open_page(f"units/{board.runs.groups[0].slug}/6.html")
    images = page.locator("main img")
    assert images.count() == 4 + 2 * 4
    assert images.evaluate_all("all => all.every(i => i.complete && i.naturalWidth > 0 && i.alt.startsWith('probe-'))")
    squares = page.get_by_role("row", name="fog").get_by_role("img")
    assert squares.first.text_content().startswith("severity 3: ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_accessibility_finding(open_page, board, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    slug = board.runs.groups[0].slug
    for path in ("search.html#q=fish", f"units/{slug}/6.html", f"units/{slug}/index.html"):
        page = open_page(path, color_scheme=scheme)
        found = axe.run(page).response["violations"]
        assert [rule["id"] for rule in found if rule["impact"] in ("serious", "critical")] == [], path


def test_ten_thousand_labels_are_searched(open_page):
    page = open_page("search.html")
    # The same page with a long list: its script is run anew.
    page.evaluate("""() => {
      const list = document.getElementById("label-index"), one = list.firstElementChild;
      list.replaceChildren(...Array.from({ length: 10000 }, (_, i) => {
        const line = one.cloneNode(true);
        line.querySelector("bdi").textContent = `label ${i}`;
        return line;
      }));
    }""")
    script = next(text for text in page.locator("script").all_text_contents() if "label-index" in text)
    page.evaluate(script)
    box = page.get_by_role("searchbox")
    said = page.evaluate("""() => new Promise((done) => {
      const input = document.getElementById("label-query"), count = document.getElementById("label-count");
      input.value = "9 9";
      new MutationObserver(() => count.textContent.includes("of 10,000") && done(count.textContent))
        .observe(count, { childList: true });
      input.dispatchEvent(new Event("input"));
    })""")
    assert "3,439 of 10,000" in said, "as many numbers below 10,000 have a nine"
    assert box.input_value() == "9 9"
