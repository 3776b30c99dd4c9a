"""What other packages add: the sample plugin, really installed, and plugins that misbehave."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from baselines import registry
from benchmark import runner
from benchmark.cli import app
from benchmark.commands import listing
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from leaderboard.board.facts import AboutPerturbation, run_facts
from leaderboard.board.names import AboutMethod
from leaderboard.store.run_folder import RunFolder
from tasks import catalogue
from tasks.common.errors import UserError
from tasks.perturbations import registry as perturbations
from tasks.perturbations.registry import PERTURBATIONS
from tasks.profiles.schema import load_profile

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "plugin_sample"
METHOD = SAMPLE / "clear_plugin_sample" / "method.py"
GROUPS = {"methods": "methods", "suites": "perturbations", "tasks": "tasks", "profiles": "profiles"}
ADDED = {"methods": "nearest_concept", "suites": "dimmed", "tasks": "resnet18_dimmed", "profiles": "photographs"}

Install = Callable[..., None]


def names(kind: str) -> list[str]:
    return [row["name"] for row in getattr(listing, kind)()]


BUILT_IN = {kind: names(kind) for kind in GROUPS}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, installed by pip from a copy, as it would be from anywhere."""
    source, target = tmp_path_factory.mktemp("source") / "sample", tmp_path_factory.mktemp("site packages")
    shutil.copytree(SAMPLE, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", str(target), str(source)], check=True)
    return target


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Plugins are looked for anew, and forgotten afterwards."""
    caches = (registry._plugins, perturbations._plugins, catalogue._plugins)
    modules = set(sys.modules)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()
    for name in set(sys.modules) - modules:
        if name.startswith(("clear_plugin_sample", "other_")):
            del sys.modules[name]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None) -> Install:
    """Puts a package beside what is installed, as pip would: its modules, and a folder that names its entry points."""

    def install(package: str, points: dict[str, str], **modules: str) -> None:
        folder = tmp_path / package
        info = folder / f"{package}-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        lines = [f"[clear.{point.split('/')[0]}]\n{point.split('/')[1]} = {value}" for point, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for name, text in modules.items():
            (folder / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(folder)

    return install


# ---- the sample ----


def test_the_sample_method_is_short() -> None:
    assert len(METHOD.read_text().splitlines()) < 30


def test_the_documentation_shows_the_sample_as_it_is() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    assert METHOD.read_text() in guide
    for line in re.findall(r"^\w+ = \".*\"$", (SAMPLE / "pyproject.toml").read_text(), re.MULTILINE):
        if "clear_plugin_sample" in line:
            assert line in guide


@pytest.mark.parametrize("kind", GROUPS)
def test_an_installed_plugin_is_listed_after_clears_own_without_torch(kind: str, site: Path) -> None:
    code = (
        f"import sys; sys.path.append({str(site)!r}); sys.argv = ['x', 'list', {kind!r}, '--json']\n"
        "from benchmark.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'pandas', 'scipy'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    rows = json.loads(result.stdout)
    # Wrappers of methods stand last.
    described = {row["name"]: row["description"] for row in rows if not row["name"].endswith("(METHOD)")}
    assert list(described) == [name for name in (*BUILT_IN[kind], ADDED[kind]) if not name.endswith("(METHOD)")]
    assert described[ADDED[kind]]
    assert result.stderr == ""


def test_the_sample_runs_from_the_command_line_to_the_tables(
    site: Path, fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(site)
    command = "run --task resnet18_dimmed --methods nearest_concept,constant_label --set nearest_concept.top_images=3"
    few = "--images 24 --units 2 --repeats 1 --faithfulness none --thumbnails 0 --device cpu --json"
    result = CliRunner().invoke(app, [*command.split(), *few.split(), "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output

    folder = RunFolder(tmp_path / "run")
    facts = run_facts(folder.info())
    summary = "Names a unit by the concept that is nearest to its strongest images in CLIP's space."
    assert facts.method("nearest_concept") == AboutMethod(summary)
    assert facts.method("constant_label").trivial
    assert facts.perturbations["dimmed"] == AboutPerturbation("digital", PERTURBATIONS["dimmed"].description)
    labels = folder.read_table("labels")
    own = labels[labels["method"] == "nearest_concept"]
    concepts = load_profile("miniature").concept_set("scenes").read_text().splitlines()
    assert set(own["perturbation"]) == {"clean", "dimmed"}
    assert set(own["label"]) <= set(concepts)
    assert (own.groupby(["perturbation", "unit"]).size() == 5).all()
    assert own["score"].between(-1, 1).all()
    seen = own.pivot(index=["unit", "rank"], columns="perturbation", values="score")
    assert (seen["clean"] != seen["dimmed"]).any()  # other images were looked at
    content = folder.info()["identity"]["content"]
    assert content["methods"]["nearest_concept"] == "1"
    assert content["perturbations"]["dimmed"]["parameters"] == [0.1, 0.3, 0.5, 0.7, 0.9]


def test_an_installed_profile_finds_its_files_beside_itself(
    site: Path, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(site)
    profile = load_profile("photographs")
    assert profile.concept_set("scenes") == site / "clear_plugin_sample" / "concepts.txt"
    assert profile.concept_set("scenes").read_text().startswith("bird\n")


# ---- what plugins may get wrong ----


@pytest.mark.parametrize("kind", GROUPS)
@pytest.mark.parametrize(
    ("name", "module", "reason"),
    [
        ("mine", "raise RuntimeError('no\\nluck')", "RuntimeError: no luck"),
        ("mine", "import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("mine", "raise SystemExit(2)", "SystemExit: 2"),
        ("mine", "", "AttributeError: module 'other_code' has no attribute 'THING'"),
        ("mine", "THING = 3", ""),
        ("mine", "THING = 'missing.yaml'", ""),
        ("Mine, too", "THING = 3", "use small letters"),
        (None, "raise AssertionError('imported, though its name is taken')", "the name is taken by CLEAR's own"),
    ],
)
def test_a_broken_plugin_is_one_warning_and_clears_own_remain(
    kind: str, name: str | None, module: str, reason: str, install: Install
) -> None:
    taken = {"methods": "dnd", "suites": "fog", "tasks": "resnet50_fc", "profiles": "miniature"}[kind]
    point = name or taken
    install("other", {f"{GROUPS[kind]}/{point}": "other_code:THING"}, other_code=module)
    with pytest.warns(UserWarning, match="left out") as caught:
        assert names(kind) == BUILT_IN[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert names(kind) == BUILT_IN[kind]
    (warning,) = caught
    said = str(warning.message)
    assert re.match(rf"The \w+ '{point}' of other \(other_code:THING\) is left out: ", said)
    assert reason in said
    assert "\n" not in said


def test_plugins_are_not_touched_where_clears_own_are_asked_for(install: Install) -> None:
    points = {f"{group}/mine": "other_code:THING" for group in GROUPS.values()}
    install("other", points, other_code="raise AssertionError('imported')")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert catalogue.load_task("resnet50_layer4").suites
        assert catalogue.profile_path("miniature").is_file()
        assert registry.load("constant_label")
        assert PERTURBATIONS["fog"].load()
    assert "other_code" not in sys.modules


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        (lambda: registry.load("mine"), "method"),
        (lambda: perturbations.perturbation("mine"), "perturbation"),
        (lambda: catalogue.load_task("mine"), "task"),
        (lambda: catalogue.profile_path("mine"), "profile"),
    ],
)
def test_who_asks_for_a_broken_plugin_learns_why_it_is_unknown(ask: Callable, kind: str, install: Install) -> None:
    install("other", {f"{kind}s/mine": "other_code"}, other_code="raise RuntimeError('no luck')")
    with (
        pytest.warns(UserWarning, match=f"The {kind} 'mine' of other .* RuntimeError: no luck"),
        pytest.raises(UserError, match=f"Unknown {kind} 'mine'"),
    ):
        ask()


METHOD_CODE = """
class Mine:
    name, version, needs = "mine", "{version}", frozenset({needs})

    def label(self, observation, units, tools):
        return []
"""


def test_of_two_plugins_with_one_name_the_first_stays(install: Install) -> None:
    code = {"other_a": METHOD_CODE.format(version="a", needs=""), "other_b": METHOD_CODE.format(version="b", needs="")}
    install("bravo", {"methods/mine": "other_b:Mine"}, other_b=code["other_b"])
    install("alpha", {"methods/mine": "other_a:Mine"}, other_a=code["other_a"])
    with pytest.warns(UserWarning, match=r"'mine' of bravo \(other_b:Mine\) is left out: the name is taken by alpha\."):
        entry = registry.entry("mine")
    assert (entry.package, entry.version) == ("alpha", "a")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (METHOD_CODE.format(version="1", needs="").replace('"mine"', '"yours"'), "it calls itself 'yours'"),
        (
            METHOD_CODE.format(version="1", needs="").replace("frozenset()", '"clip"'),
            "its needs are not a set of names",
        ),
        (METHOD_CODE.format(version="1", needs="[1]"), "its needs are not a set of names"),
        (METHOD_CODE.format(version="1", needs="").replace("def label", "def labels"), "no attribute 'label'"),
        ("def Mine():\n    pass\n", "it is not a class"),
    ],
)
def test_an_unfit_method_is_left_out(code: str, reason: str, install: Install) -> None:
    install("other", {"methods/mine": "other_code:Mine"}, other_code=code)
    with pytest.warns(UserWarning, match=reason):
        assert names("methods") == BUILT_IN["methods"]


def sample_class() -> type:
    code: dict[str, object] = {"__name__": "notebook"}
    exec(METHOD.read_text(encoding="utf-8"), code)
    return code["NearestConcept"]  # type: ignore[return-value]


def test_a_method_of_a_notebook_is_known_in_its_process_and_replaced_when_its_cell_runs_again(
    fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    first = registry.register(sample_class())
    assert isinstance(registry.load("nearest_concept", top_images="3"), first)
    assert registry.load("several(nearest_concept)").name == "several(nearest_concept)"
    assert names("methods")[-3] == "nearest_concept"
    assert registry.entry("nearest_concept").summary.startswith("Names a unit by the concept that is nearest")
    again = registry.register(sample_class())
    assert type(registry.load("nearest_concept")) is again is not first


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"name": "dnd"}, "taken by CLEAR's own"),
        ({"name": "My method"}, "use small letters"),
        ({"needs": frozenset({"clipp"})}, "clip"),
        ({"needs": "clip"}, "not a set of names"),
    ],
)
def test_an_unfit_method_of_a_notebook_is_refused(
    facts: dict, said: str, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    with pytest.raises(UserError, match=said):
        registry.register(type("Unfit", (sample_class(),), facts))
    with pytest.raises(UserError, match="Empty lacks name, version, needs, label"):
        registry.register(type("Empty", (), {}))
    assert not registry._registered


def test_a_method_that_cannot_be_constructed_is_a_sentence(install: Install) -> None:
    made = METHOD_CODE.format(version="1", needs="") + "\n    def __init__(self, size: int = 0):\n        1 / size\n"
    install("other", {"methods/mine": "other_code:Mine"}, other_code=made)
    with pytest.raises(UserError, match="The method mine of other cannot be constructed: ZeroDivisionError: division"):
        registry.load("mine")
    assert registry.load("mine", size="2").name == "mine"


# ---- files of plugins ----


def task_text(**changes: object) -> str:
    text = (SAMPLE / "clear_plugin_sample" / "resnet18_dimmed.yaml").read_text().replace("[dimmed]", "[fog]")
    for field, value in changes.items():
        text = re.sub(rf"^{field}:.*$", f"{field}: {value}", text, flags=re.MULTILINE)
    return text


def test_a_variable_may_name_the_file_and_suites_lie_beside_it(install: Install, tmp_path: Path) -> None:
    install("other", {"tasks/mine": "other_code:FILE"}, other_code="FILE = 'data/own.yaml'")
    data = tmp_path / "other" / "data"
    data.mkdir()
    (data / "own.yaml").write_text(task_text(name="mine", suites="[wet.yaml]"))
    (data / "wet.yaml").write_text("name: wet\nperturbations: [fog, spatter]\n")
    assert catalogue.load_task("mine").suites == (str(data / "wet.yaml"),)
    shown = listing.tasks()[-1]
    assert (shown["name"], shown["model"]) == ("mine", "resnet18")
    assert listing.task("mine")["perturbations"] == ["fog", "spatter"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "other_name"}, "it calls itself 'other_name'"),
        ({"name": "resnet50_fc"}, "it calls itself 'resnet50_fc'"),
        ({"name": "mine", "pooling": "men"}, r"'pooling' cannot be 'men'\. Did you mean 'mean'"),
        ({"name": "[mine"}, "is not valid YAML"),
    ],
)
def test_an_unfit_task_file_is_left_out(changes: dict, reason: str, install: Install, tmp_path: Path) -> None:
    install("other", {"tasks/mine": "other_code:FILE"}, other_code="FILE = 'own.yaml'")
    (tmp_path / "other" / "own.yaml").write_text(task_text(**changes))
    with pytest.warns(UserWarning, match=reason):
        assert names("tasks") == BUILT_IN["tasks"]


# ---- methods that return what is no answer ----

WRONG = """
from baselines.base import Label, UnitLabels


class Method:
    version, needs = "1", frozenset()

    def label(self, observation, units, tools):
        return self.answer([UnitLabels(unit, (Label("cat", 1.0),)) for unit in units], units)


class Nothing(Method):
    name = "nothing"

    def answer(self, right, units):
        return None


class TooFew(Method):
    name = "too_few"

    def answer(self, right, units):
        return right[1:]


class Words(Method):
    name = "words"

    def answer(self, right, units):
        return ["cat" for unit in units]


class Number(Method):
    name = "number"

    def answer(self, right, units):
        return [UnitLabels(unit, (Label(7, 1.0),)) for unit in units]


class Odd(Method):
    name = "odd"

    def answer(self, right, units):
        return [UnitLabels(unit, (Label("cat", 1.0),), extra={"self": self}) for unit in units]


class Failing(Method):
    name = "failing"

    def answer(self, right, units):
        raise LookupError("lost")
"""


def test_a_method_with_a_wrong_answer_loses_its_own_cells_only(install: Install, tmp_path: Path) -> None:
    classes = {"nothing": "Nothing", "too_few": "TooFew", "words": "Words", "number": "Number"}
    classes |= {"odd": "Odd", "failing": "Failing"}
    install("other", {f"methods/{name}": f"other_wrong:{made}" for name, made in classes.items()}, other_wrong=WRONG)
    options = RunOptions.model_validate(
        {
            "tasks": ("resnet18_layer4",),
            "methods": (*classes, "constant_label"),
            "suites": ("contrast",),
            "images": 12,
            "unit_ids": (3, 5),
            "repeats": 1,
            "out": tmp_path / "run",
            "device": "cpu",
            "faithfulness": "none",
            "thumbnails": 0,
        }
    )
    result = runner.run(options, Display("quiet"))
    labels = RunFolder(result.folder).read_table("labels")
    assert set(labels["method"]) == {"constant_label"}
    assert set(labels["perturbation"]) == {"clean", "contrast"}
    assert len(result.failed) == 2 * len(classes)
    reasons = {
        "nothing": "ValueError: the method nothing returned a NoneType, not a list of UnitLabels",
        "too_few": "ValueError: the method too_few returned labels for 1 units, but was asked for 2",
        "words": "ValueError: the method words returned a list with a str in it, not of UnitLabels only",
        "number": "ValueError: the method number returned for unit 3 the label 7; a unit without a name gets no Label",
        "odd": "TypeError: Object of type Odd is not JSON serializable",
        "failing": "LookupError: lost",
    }
    for name, reason in reasons.items():
        assert [cell.partition(": ")[2] for cell in result.failed if f"~{name}~" in cell] == [reason, reason]
