"""Pages made from what methods, suites, measures and options state; ``conf.py`` writes them before a build."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import benchmark
import metrics
from baselines import registry
from benchmark.core.facts import about_methods
from benchmark.core.options import Flag, RunOptions
from leaderboard.board.build import measures
from leaderboard.store.columns import Column
from leaderboard.store.escape import markdown
from leaderboard.store.results import RESULTS
from leaderboard.store.schema import FAITHFULNESS, SCORES
from tasks.common.images import to_array, to_tensor
from tasks.miniature.render import render
from tasks.miniature.scene import scene_at
from tasks.miniature.vocabulary import SIDE
from tasks.perturbations import perturb
from tasks.perturbations.registry import PERTURBATIONS, SEVERITIES, Perturbation
from tasks.perturbations.suites import Suite, load_suite, suite_names
from tasks.perturbations.swap import background_of
from tasks.view import View

_INSIDE = "clip_dissect"
"""The method that stands for any METHOD inside a wrapper."""


def write_pages(folder: Path) -> None:
    """Write one page per method, suite and measure, an overview of each kind, the options and the formulas.

    Args:
        folder: Holds nothing else; a page that is the same already is left, so that Sphinx does not read it again.
    """
    _draw(folder / "suites")
    shown = benchmark.load(RESULTS / "resnet50_layer4")
    for name in ("gallery", "heat_map"):
        (folder / f"{name}.png").write_bytes(shown.figure(name).data("png"))
    pages = {**_methods(), **_suites(), **_measures(), "options": _options(), "metrics": _formulas()}
    for name, text in pages.items():
        file = folder / f"{name}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
    for old in {*folder.rglob("*.md")} - {folder / f"{name}.md" for name in pages}:
        old.unlink()


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", *filter(None, parts))) + "\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    """The facts that there are."""
    return _table(("fact", "value"), (row for row in rows if row[1]))


def _overview(title: str, kind: str, heads: Sequence[str], rows: Mapping[str, Sequence[str]], about: str) -> str:
    table = _table(heads, ((f"[{row[0]}]({kind}/{name}.md)", *row[1:]) for name, row in rows.items()))
    return _page(
        title, about, table, "\n".join(["```{toctree}", ":hidden:", "", *(f"{kind}/{n}" for n in rows), "```"])
    )


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _sentence(text: str) -> str:
    return f"{markdown(text).rstrip('.')}."


# ---- methods ----


def _methods() -> dict[str, str]:
    entries = {name: registry.entry(name) for name in registry.names()}
    entries |= {one.name.partition("(")[0]: one for one in registry.wrappers()}
    rows = {name: (f"`{one.name}`", _sentence(one.summary), _code(one.needs)) for name, one in entries.items()}
    about = (
        "Each of these labels units. `python -m benchmark list methods` prints them, with those of installed packages."
    )
    pages = {f"methods/{name}": _method(one) for name, one in entries.items()}
    return {**pages, "methods": _overview("Methods", "methods", ("method", "what it does", "needs"), rows, about)}


def _method(entry: registry.MethodEntry) -> str:
    """The page of a method, from its entry in the registry and what its class states."""
    name = entry.name.replace("METHOD", _INSIDE)
    facts = about_methods({name: registry.load(name)})[name]
    own = [key for key in facts["citation"] if name == entry.name or key not in _cited(_INSIDE)]
    asks = "what the method inside needs" if name != entry.name else _code(entry.needs)
    rows = [
        ("Version", entry.version),
        ("Needs", asks),
        ("In a run by default", "yes" if entry.default else "no, name it with `--methods`"),
        ("Trivial baseline", "yes, which every other method must beat" if facts["trivial"] else ""),
        ("Reads the images' annotation", "yes" if facts["annotation"] else ""),
        ("Perturbations that it uses itself", _code(facts["uses_perturbations"])),
        ("Perturbations on which it was tuned", _code(facts["tuned_on"])),
    ]
    return _page(
        f"`{entry.name}`",
        _sentence(entry.summary),
        f"After {{footcite:t}}`{','.join(own)}`." if own else "",
        _facts(rows),
        f"```\npython -m benchmark run --task resnet50_layer4 --methods '{name}' --suites fog --units 6\n```",
        "## Options",
        "\n".join(["```{eval-rst}", f".. autoclass:: {entry.target.replace(':', '.')}", "```"]),
        "```{footbibliography}\n```" if own else "",
    )


def _cited(name: str) -> Sequence[str]:
    return getattr(registry.load(name), "citation", ())


# ---- suites ----


def _suites() -> dict[str, str]:
    suites = {name: load_suite(name) for name in suite_names()}
    rows = {
        name: (f"`{name}`", str(len(suite.perturbations)), _sentence(suite.description))
        for name, suite in suites.items()
    }
    about = (
        "A suite is a named list of perturbations; each perturbation is also a suite of its own. How they are made, "
        "and what is particular about them: [Perturbations](../perturbations.md)."
    )
    pages = {f"suites/{name}": _suite(suite) for name, suite in suites.items()}
    return {**pages, "suites": _overview("Suites", "suites", ("suite", "perturbations", "what it is"), rows, about)}


def _suite(suite: Suite) -> str:
    severities = f"Its own severities: {', '.join(map(str, suite.severities))}." if suite.severities else ""
    return _page(
        f"`{suite.name}`",
        _sentence(suite.description),
        f"Source: {_sentence(suite.source)}" if suite.source else "",
        severities,
        f"```\npython -m benchmark run --task resnet50_layer4 --suites {suite.name} --units 6\n```",
        "Pictures show a scene of the miniature at the networks' size, clean and then at severities 1 to 5.",
        *(_perturbation(PERTURBATIONS[name]) for name in suite.perturbations),
    )


def _perturbation(entry: Perturbation) -> str:
    rows = [
        ("Family", entry.family),
        ("Parameters, severities 1 to 5", "; ".join(_numbers(value) for value in entry.parameters)),
        ("Drawn at random", "yes, with a seed per image" if entry.random else ""),
        ("Needs", _code(entry.needs)),
        ("Source", _sentence(entry.source) if entry.source else "CLEAR"),
    ]
    picture = f"![A scene, clean and under {entry.name} at severities 1 to 5]({entry.name}.webp)"
    return "\n\n".join((f"## `{entry.name}`", _sentence(entry.description), picture, _facts(rows)))


def _numbers(value: float | tuple[float, ...]) -> str:
    return f"({', '.join(f'{one:g}' for one in value)})" if isinstance(value, tuple) else f"{value:g}"


def _draw(folder: Path) -> None:
    """Draw a scene under each perturbation: clean, then at severities 1 to 5."""
    view = View(SIDE)
    shown, other = (render(scene_at("test", number)) for number in (0, 1))
    images = view(to_tensor(np.stack([shown.image, other.image])))
    masks = torch.from_numpy(np.stack([view.mask(one.foreground) for one in (shown, other)]))
    behind = background_of(images, masks)[1:]
    folder.mkdir(parents=True, exist_ok=True)
    for name in PERTURBATIONS:
        row = [perturb(images[:1], name, severity, [0], masks[:1], behind) for severity in (0, *SEVERITIES)]
        strip = np.concatenate(list(to_array(torch.cat(row))), axis=1)
        Image.fromarray(strip).save(folder / f"{name}.webp", quality=80)


# ---- measures ----


def _measures() -> dict[str, str]:
    ranked = measures()
    found = ranked | {
        one.name: one
        for table in (SCORES, FAITHFULNESS)
        for one in table.columns
        if one.title and one.name not in ranked
    }
    rows = {name: (markdown(one.title), _sentence(one.meaning), _better(one)) for name, one in found.items()}
    about = (
        "Every measure of the tables, from `leaderboard/store/schema.py`. Which test is used where, and what the "
        "numbers do and do not mean: [The numbers](../numbers.md); as formulas: [Formulas](metrics.md)."
    )
    pages = {f"measures/{name}": _measure(one) for name, one in found.items()}
    return {**pages, "measures": _overview("Measures", "measures", ("measure", "what it is", "better"), rows, about)}


def _measure(column: Column) -> str:
    tables = [table.name for table in (SCORES, FAITHFULNESS) if column.name in {one.name for one in table.columns}]
    ends = ["−∞" if column.low is None else f"{column.low:g}", "∞" if column.high is None else f"{column.high:g}"]
    rows = [
        ("Column", f"`{column.name}`"),
        ("Range", f"{ends[0]} to {ends[1]}"),
        ("Better", _better(column)),
        ("Stored in", _code(tables or ["summary"])),
    ]
    return _page(markdown(column.title), _sentence(column.meaning), _facts(rows))


def _better(column: Column) -> str:
    return {True: "higher", False: "lower", None: "neither"}[column.higher_is_better]


# ---- options and formulas ----


def _options() -> str:
    rows = []
    for name, field in RunOptions.model_fields.items():
        flag = next((mark.name for mark in field.metadata if isinstance(mark, Flag)), f"--{name.replace('_', '-')}")
        rows.append((f"`{name}`", f"`{flag}`" if field.description else "", _sentence(field.description or "")))
    about = (
        "`python -m benchmark run` takes the second column, `benchmark.run(...)` the first; see "
        "[From Python](../python.md). A field without an option of its own belongs to the one above it."
    )
    return _page("Options of a run", about, _table(("in Python", "on the command line", "meaning"), rows))


def _formulas() -> str:
    modules = [module.name for module in pkgutil.walk_packages(metrics.__path__, "metrics.") if not module.ispkg]
    shown = (f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```" for name in modules)
    return _page(
        "Formulas", "What each number is, from the docstrings of `metrics/`: pure functions on arrays.", *shown
    )
