"""The pages in a real browser: Debian's chromium, headless, opened from files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from small_bottlenecks import write_analyses, write_bottleneck
from small_runs import write_run

from leaderboard.board.build import Board, build_board
from leaderboard.board.merge import merge_runs
from leaderboard.pages import write_site

_FOUND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_REQUIRED = bool(os.environ.get("CLEAR_REQUIRE_BROWSER"))

pytestmark = [
    pytest.mark.usefixtures("few_resamples"),
    pytest.mark.skipif(
        _FOUND is None and not _REQUIRED, reason="no chromium, chromium-browser or google-chrome on the path"
    ),
]

PHONE = {"width": 360, "height": 740}
METHOD = "dnd (prompt=<img src=x onerror=alert(1)>)"


@dataclass
class Opened:
    """A page, and what it did that no page should."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def calm(self) -> None:
        assert self.complaints == []
        assert self.requests == [self.page.url.partition("#")[0]]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    root = tmp_path_factory.mktemp("runs")
    suites = {"gaussian_blur": (("gaussian_blur", 1), ("gaussian_blur", 5)), "fog": (("fog", 1), ("fog", 5))}
    methods = {"clip_dissect": 0.1, METHOD: 0.6, "random_label": 1.0}
    write_run(root / "whole", methods, suites=suites, units=8, comparisons=False)
    holed = {METHOD: [("fog", 5)]}
    write_run(root / "holed", methods, False, task="other", suites=suites, units=8, lacking=holed, comparisons=False)
    write_analyses(root / "whole")
    write_bottleneck(root / "bottleneck", renamed={"circle": "<img src=x onerror=alert(2)>" * 4})
    return build_board(merge_runs(root))


@pytest.fixture(scope="module")
def site(board: Board, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    write_site(board, out)
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert _FOUND is not None, "CLEAR_REQUIRE_BROWSER is set, and there is no browser on the path"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=_FOUND, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def go(browser: Browser, site: Path) -> Iterator[Callable[..., Opened]]:
    """Open a page of the site in a context of its own."""
    contexts = []

    def opened(path: str, **options: object) -> Opened:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})  # type: ignore[arg-type]
        contexts.append(context)
        made = Opened(context.new_page())
        made.page.on("request", lambda request: made.requests.append(request.url))
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        made.page.on("dialog", lambda dialog: made.complaints.append(dialog.message))
        # A breach of the policy is an error on the console too.
        made.page.on(
            "console", lambda message: made.complaints.append(message.text) if message.type == "error" else None
        )
        made.page.goto((site / path).as_uri())
        return made

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def paths(board: Board) -> list[str]:
    """One page of each kind."""
    slug = next(group.slug for group in board.runs.groups if group.task == "toy_task")
    fixed = ["index.html", "reading.html", "licences.html", "search.html"]
    beside = [f"tasks/{group.slug}.html" for group in board.runs.bottlenecks]
    return [*fixed, f"tasks/{slug}.html", f"units/{slug}/1.html", *beside]


def _column(page: Page, number: int) -> list[str]:
    """The texts of a column of the board, of the rows that are shown."""
    return page.locator(f"table.board tbody tr:not([hidden]) > :nth-child({number})").all_inner_texts()


def _suites(page: Page) -> list[str]:
    """The suite of each row, without what the method has seen of it."""
    return [text.split("\n")[0] for text in _column(page, 4)]


def _keys(page: Page, number: int) -> list[str]:
    cells = page.locator(f"table.board tbody tr:not([hidden]):not(.open) > :nth-child({number})")
    return [cell.get_attribute("data-key") or "" for cell in cells.all()]


def test_the_board_can_be_sorted(go: Callable[..., Opened]) -> None:
    opened = go("index.html")
    page = opened.page
    head = page.get_by_role("columnheader", name="Stability higher is better")
    assert head.get_attribute("aria-sort") == "none"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    lasts = [
        int(row.get_attribute("data-last") or 0) for row in page.locator("tbody tr[data-last]:not([hidden])").all()
    ]
    assert lasts == sorted(lasts), "trivial baselines, then incomplete rows, come last"
    shown = page.locator("tbody tr[data-last='0']:not([hidden]) td.stability").all()
    values = [float(cell.get_attribute("data-key") or "nan") for cell in shown]
    assert len(values) > 2
    assert values == sorted(values, reverse=True)
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    shown = page.locator("tbody tr[data-last='0']:not([hidden]) td.stability").all()
    assert [float(cell.get_attribute("data-key") or "nan") for cell in shown] == sorted(values)
    page.get_by_role("columnheader", name="Task", exact=True).get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "none"
    assert len(_column(page, 3)) == 6
    opened.calm()


def test_every_column_can_be_sorted_both_ways(go: Callable[..., Opened]) -> None:
    opened = go("index.html")
    page = opened.page
    heads = page.locator("table.board th[data-sort='number']").all()
    assert len(heads) == 11
    for number, head in enumerate(heads):
        place = int(head.evaluate("head => head.cellIndex")) + 1
        best_first = head.get_attribute("data-better") == "high"
        head.get_by_role("button").click()
        keys = [float(key) for key in _keys(page, place)[:3] if key]
        assert keys == sorted(keys, reverse=best_first), number
        head.get_by_role("button").click()
        keys = [float(key) for key in _keys(page, place)[:3] if key]
        assert keys == sorted(keys, reverse=not best_first), number
    opened.calm()


def test_the_board_can_be_filtered(go: Callable[..., Opened]) -> None:
    opened = go("index.html")
    page = opened.page
    status = page.get_by_role("status")
    assert set(_suites(page)) == {"all"}
    assert status.inner_text() == "6 rows"
    page.get_by_label("Task").select_option("other")
    assert set(_column(page, 3)) == {"other"}
    assert status.inner_text() == "3 rows"
    page.get_by_label("Method").select_option(METHOD)
    assert _column(page, 2) == [METHOD]
    assert status.inner_text() == "1 row"
    page.get_by_label("Suite").select_option("each suite")
    assert sorted(_suites(page)) == ["all", "fog", "gaussian_blur"]
    page.get_by_label("Task").select_option("all tasks")
    page.get_by_label("Suite").select_option("fog")
    assert sorted(_column(page, 3)) == ["other", "toy_task"]
    opened.calm()


def test_the_board_stands_without_javascript(go: Callable[..., Opened], board: Board) -> None:
    opened = go("index.html", java_script_enabled=False)
    rows = [row for standings in board.standings for row in standings.rows]
    assert len(_column(opened.page, 2)) == len(rows)
    assert [text.removesuffix(" trivial") for text in _column(opened.page, 2)] == [row.method for row in rows]
    assert not opened.page.locator(".toolbar").is_visible()
    assert opened.page.locator("table.board thead button").count() == 0
    opened.calm()


@pytest.mark.parametrize("kind", range(6))
def test_pages_ask_nobody_and_complain_of_nothing(go: Callable[..., Opened], paths: list[str], kind: int) -> None:
    opened = go(paths[kind])
    for summary in opened.page.locator("main summary").all():
        if summary.is_visible():
            summary.click()
    opened.calm()


def test_the_policy_holds(go: Callable[..., Opened]) -> None:
    opened = go("index.html")
    opened.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            const image = document.createElement("img");
            image.src = "https://example.org/a.png";
            document.body.append(image);
            document.body.setAttribute("style", "color: red");
        }"""
    )
    opened.page.wait_for_timeout(50)
    assert opened.page.evaluate("window.ran") is None
    assert opened.page.evaluate("getComputedStyle(document.body).color") != "rgb(255, 0, 0)"
    assert len(opened.complaints) == 3
    assert all("Content Security Policy" in complaint for complaint in opened.complaints)


@pytest.mark.parametrize("kind", range(6))
def test_a_phone_scrolls_down_only(go: Callable[..., Opened], paths: list[str], kind: int) -> None:
    page = go(paths[kind], viewport=PHONE).page
    for summary in page.locator("main summary").all():
        if summary.is_visible():
            summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    wide = page.evaluate(
        """() => Array.from(document.querySelectorAll("main *")).filter((element) =>
            element.getBoundingClientRect().right > innerWidth + 1
            && !element.closest(".scroll, pre") && getComputedStyle(element).position !== "absolute"
        ).map((element) => element.outerHTML.slice(0, 80))"""
    )
    assert wide == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_readers_scheme(go: Callable[..., Opened], paths: list[str], scheme: str) -> None:
    page = go(paths[4], color_scheme=scheme).page
    back, ink = page.evaluate(
        """() => [getComputedStyle(document.documentElement).backgroundColor, getComputedStyle(document.body).color]
            .map((colour) => colour.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0))"""
    )
    assert (back > ink) == (scheme == "light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", range(6))
def test_axe_finds_nothing_serious(go: Callable[..., Opened], paths: list[str], kind: int, scheme: str) -> None:
    page = go(paths[kind], color_scheme=scheme, bypass_csp=True).page
    for summary in page.locator("main summary").all():
        if summary.is_visible():
            summary.click()
    found = [
        f"{violation['id']}: {violation['nodes'][0]['html'][:200]}"
        for violation in Axe().run(page).response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
    assert found == []


def test_a_panel_names_itself_to_those_who_cannot_see_it(go: Callable[..., Opened], paths: list[str]) -> None:
    page = go(paths[4]).page
    panel = page.get_by_role("img", name="Stability by severity: fog")
    described = panel.evaluate("svg => svg.querySelector('desc').textContent")
    assert described.startswith("From severity 1 to 5: ")
    assert METHOD in described


def test_the_keyboard_reaches_the_content_first(go: Callable[..., Opened]) -> None:
    page = go("index.html").page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
