from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pandas as pd
import pytest
import typer
from pydantic import Field
from typer.main import get_command
from typer.testing import CliRunner

from baselines import registry
from benchmark.cli import app
from benchmark.commands.options_cli import with_run_options
from benchmark.core.options import RunOptions, Runtime
from benchmark.core.preflight import missing_package
from leaderboard.board.facts import RunFacts
from leaderboard.store.errors import StoreError
from leaderboard.store.schema import COMPARISONS, SCORES, SUMMARY
from leaderboard.view.content import Cell, Row, Section, Table
from tasks.catalogue import task_names
from tasks.perturbations import PERTURBATIONS
from tasks.perturbations.suites import suite_names

TASK = "resnet50_layer4"


def table(kind: str, title: str) -> Table:
    parts = (kind, TASK, "miniature", title, "", None, "Measure", ("dnd",))
    return Table(*parts, (Section((Row("F1", (Cell(0.25),)),)),), ())


class FakeRunner(types.ModuleType):
    """Stands where ``benchmark.runner`` does: notes what it was asked, then does what the test says."""

    def __init__(self, summary: pd.DataFrame):
        super().__init__("benchmark.runner")
        self.asked: list[RunOptions] = []
        self.failed: list[str] = []
        self.error: BaseException | None = None
        self.summary = summary

    def run(self, options, display, tasks):
        self.asked.append(options)
        assert [task.name for task in tasks] == list(options.tasks)
        display.message("working")
        if self.error is not None:
            raise self.error
        return types.SimpleNamespace(
            folder=options.folder(),
            failed=self.failed,
            scores=pd.DataFrame(columns=[column.name for column in SCORES.columns]),
            summary=self.summary,
            comparisons=pd.DataFrame(columns=[column.name for column in COMPARISONS.columns]),
            facts=RunFacts(),
            faithfulness=[table("faithfulness", "Faithfulness")],
            studies={
                "dependence": [],
                "sensitivity": [table("sensitivity", "Sensitive units"), table("degradation", "Degraded images")],
            },
        )


@pytest.fixture
def runner(monkeypatch) -> FakeRunner:
    base = {column.name: None for column in SUMMARY.columns}
    base |= {
        "task": TASK,
        "profile": "miniature",
        "method": "dnd",
        "units": 24,
        "dead": 1,
        "missing": 0,
        "distinct": 20,
        "known": 24,
    }
    base |= {"noise_floor": 0.97, "chance": 0.61}
    rows = [
        {**base, "perturbation": "fog", "severity": "3", "stability": 0.5, "stability_low": 0.4, "stability_high": 0.6}
    ]
    fake = FakeRunner(pd.DataFrame(rows))
    monkeypatch.setitem(sys.modules, "benchmark.runner", fake)
    monkeypatch.setattr(sys.modules["benchmark"], "runner", fake, raising=False)
    monkeypatch.setattr("benchmark.core.preflight.profile_path", lambda name: Path(name))
    return fake


def call(*arguments: str):
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return CliRunner().invoke(app, list(arguments))
    finally:
        signal.signal(signal.SIGTERM, handler)


def sentence(result) -> str:
    """The one line of an error."""
    assert "Traceback" not in result.output
    (line,) = result.stderr.strip().splitlines()[-1:]
    return line


# ---- list and show ----


METHODS = (*registry.names(), *(entry.name for entry in registry.wrappers()))


@pytest.mark.parametrize(
    ("kind", "names"),
    [("tasks", task_names()), ("methods", METHODS), ("suites", (*suite_names(), *PERTURBATIONS))],
)
def test_list(kind, names):
    shown, as_json = call("list", kind), call("list", kind, "--json")
    assert (shown.exit_code, as_json.exit_code) == (0, 0)
    assert [row["name"] for row in json.loads(as_json.stdout)] == list(names)
    assert all(row["description"] for row in json.loads(as_json.stdout))
    firsts = [line.split()[0] for line in shown.stdout.splitlines() if not line.startswith(" ")]
    assert firsts == list(names)


def test_list_profiles(tmp_path, monkeypatch):
    (tmp_path / "tiny.yaml").write_text("name: tiny\ndescription: A small\n  world.\n")
    monkeypatch.setattr("tasks.catalogue.PROFILES", tmp_path)
    assert call("list", "profiles").stdout.strip() == "tiny  A small world."
    assert json.loads(call("list", "profiles", "--json").stdout) == [{"name": "tiny", "description": "A small world."}]


def test_show(tmp_path):
    facts = json.loads(call("show", TASK, "--json").stdout)
    assert facts["units"] == {"total": 2048, "first": 0, "label": 32}
    assert facts["perturbations"][:3] == ["gaussian_blur", "foreground_blur", "background_blur"]
    assert len(facts["perturbations"]) == 18
    assert "layer: layer4" in call("show", TASK).stdout


def test_unknown_names_are_usage_or_mistakes():
    assert call("list", "task").exit_code == 2
    assert call().exit_code in (0, 2)
    assert call("lst").exit_code == 2
    result = call("show", "resnet50_layr4")
    assert result.exit_code == 1
    assert sentence(result).startswith("Unknown task 'resnet50_layr4'. Did you mean resnet50_layer4")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_an_output_that_lacks_a_letter_is_no_failure(tmp_path, encoding):
    command = [sys.executable, "-m", "benchmark", "cache", "list", "--cache", str(tmp_path / "ป่า")]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout


@pytest.mark.parametrize("name", ["tasks", "metrics", "report", "leaderboard", "baselines"])
def test_a_module_of_the_users_is_not_taken_for_ours(tmp_path, name):
    (tmp_path / f"{name}.py").write_text("raise SystemExit('taken')")
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-m", "benchmark", "show", TASK]
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["leaderboard", "report"])
def test_a_module_of_the_users_is_not_taken_for_ours_when_results_are_read(tmp_path, package):
    (tmp_path / "metrics.py").write_text("raise SystemExit('taken')")
    (tmp_path / "runs").mkdir()
    command = [sys.executable, "-m", package, "build", "--runs", "runs", "--out", "out"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "taken" not in done.stderr
    assert "wrote" in done.stdout or "no finished run" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list", "tasks"], ["list", "methods"], ["list", "suites"], ["list", "profiles"]]
)
def test_help_and_list_import_no_torch_and_no_pandas(arguments):
    code = (
        "import sys; from benchmark.cli import main\n"
        f"sys.argv = ['x', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'ray', 'torch', 'pandas', 'pyarrow', 'scipy', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mistake", [["--task", "resnet50_layr4"], ["--task", TASK, "--units", "4000"]])
def test_mistakes_are_told_before_torch_is_loaded(mistake):
    code = (
        "import sys; from benchmark.cli import main\n"
        f"sys.argv = ['x', 'run', *{mistake!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 1, stop.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- run: what is asked ----


def test_lists_by_comma_and_by_repetition(runner):
    result = call(
        *["run", "--task", f"{TASK},resnet50_fc", "--methods", "dnd", "--methods", "clip_dissect, random_label"],
        *["--suites", "gaussian_blur,imagenet_c", "--severities", "1,3", "--severities", "5", "--unit-ids", "3,17"],
        *["--repeats", "4", "--images", "50", "--profile", "mine.yaml", "--seed", "7", "--device", "cpu"],
        *["--corruptions", "package", "--lengths", "raw", "--feather", "1.5", "--faithfulness", "all"],
        *["--batch-size", "8", "--out", "somewhere", "--masks", "segmenter"],
        *["--set", "clip_dissect.similarity=wpmi", "--set", "dnd.k=5", "--set", "dnd.crops=false"],
    )
    assert result.exit_code == 0, result.output
    (options,) = runner.asked
    assert options == RunOptions(
        tasks=(TASK, "resnet50_fc"),
        methods=("dnd", "clip_dissect", "random_label"),
        suites=("gaussian_blur", "imagenet_c"),
        severities=(1, 3, 5),
        unit_ids=(3, 17),
        repeats=4,
        images=50,
        profile="mine.yaml",
        seed=7,
        device="cpu",
        corruptions="package",
        lengths="raw",
        feather=1.5,
        faithfulness="all",
        batch_size=8,
        out=Path("somewhere"),
        masks="segmenter",
        method_options={"clip_dissect": {"similarity": "wpmi"}, "dnd": {"k": 5, "crops": False}},
    )


def test_defaults(runner):
    assert call("run", "--task", TASK).exit_code == 0
    assert runner.asked == [RunOptions(tasks=(TASK,))]


@pytest.mark.parametrize(("text", "units"), [("32", 32), ("all", "all")])
def test_units(runner, text, units):
    call("run", "--task", TASK, "--units", text)
    assert runner.asked[0].units == units


OPTIONS = """
--task --methods --suites --severities --units --unit-ids --repeats --model --weights --strip-prefix --layer --pooling
--list-layers --dictionary --directions --images --image-count --concepts --profile --seed --set --masks --corruptions
--lengths --feather
--faithfulness --thumbnails --device --batch-size --cell-timeout --budget --analysis --exchange --attack-masks --against
--cache --track --out --offline
--executor --ray-address --workers --gpus-per-worker --cpus-per-worker --mixed-devices --lost-after --json --details
"""
DEFAULTS = {
    "repeats": 2,
    "profile": "miniature",
    "seed": 0,
    "masks": "probing_set",
    "corruptions": "published",
    "lengths": "scaled",
    "feather": 0.0,
    "faithfulness": "clean",
    "thumbnails": 4,
    "device": "auto",
    "attack_masks": False,
    "list_layers": False,
    "offline": False,
    "executor": "local",
    "cpus_per_worker": 1,
    "mixed_devices": False,
    "lost_after": 25.0,
    "as_json": False,
    "details": False,
}


@pytest.mark.parametrize("name", ["run", "plan"])
def test_options_keep_their_names_order_and_defaults(name):
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    assert [flag for option in command.params for flag in option.opts] == OPTIONS.split()
    assert {option.name: option.default for option in command.params if option.default not in (None, [])} == DEFAULTS
    assert all(option.help for option in command.params)


def test_a_field_of_the_options_is_an_option_without_more(runner, monkeypatch):
    class More(RunOptions):
        least_share: Runtime[float | None] = Field(None, description="Of something new.")

    monkeypatch.setattr("benchmark.commands.options_cli.RunOptions", More)
    monkeypatch.setattr("benchmark.commands.arguments.RunOptions", More)
    asked: list[RunOptions] = []
    more = typer.Typer()
    more.command()(with_run_options(asked.append))
    assert "Of something new." in CliRunner().invoke(more, ["--help"]).stdout
    assert CliRunner().invoke(more, ["--task", TASK, "--least-share", "0.5"]).exit_code == 0
    assert asked == [More(tasks=(TASK,), least_share=0.5)]


# ---- run: what comes out ----


def test_tables_go_to_stdout_and_progress_to_stderr(runner):
    result = call("run", "--task", TASK)
    assert "Stability ↑ of unit labels: resnet50_layer4, profile miniature" in result.stdout
    assert "0.50 [0.40, 0.60]" in result.stdout
    assert "Results: runs/resnet50_layer4" in result.stdout
    assert "working" in result.stderr
    assert "working" not in result.stdout


def test_the_rest_is_printed_on_demand(runner):
    short, whole = call("run", "--task", TASK).stdout, call("run", "--task", TASK, "--details").stdout
    for title in ("Stability ↑ of unit labels", "Sensitive units"):
        assert f"{title}: resnet50_layer4" in short
        assert f"{title}: resnet50_layer4" in whole
    for title in ("Faithfulness", "Degraded images"):
        assert f"{title}: resnet50_layer4" not in short
        assert f"{title}: resnet50_layer4" in whole
    assert "More tables, with --details or in runs/resnet50_layer4/tables: Faithfulness; Degraded images." in short
    assert "--details" not in whole
    asked = [options.identity() for options in runner.asked]
    assert asked[0] == asked[1]


def test_json_alone_is_on_stdout(runner):
    result = call("run", "--task", TASK, "--json")
    content = json.loads(result.stdout)
    assert content["folder"] == "runs/resnet50_layer4"
    assert content["failed"] == []
    (row,) = content["summary"]
    assert (row["stability"], row["units"], row["accuracy"]) == (0.5, 24, None)


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_failed_cells_are_listed_with_exit_code_3(runner, as_json):
    runner.failed = ["dnd fog 3: \x1b[31mout of memory", "dnd snow 3: no caption"]
    result = call("run", "--task", TASK, *as_json)
    assert result.exit_code == 3
    assert "2 cells failed" in result.stderr
    assert "  dnd fog 3: [31mout of memory" in result.stderr


# ---- run: mistakes ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "resnet50_layer5"], "Unknown task 'resnet50_layer5'. Did you mean resnet50_layer"),
        (["--task", TASK, "--methods", "clip-disect"], "Unknown method 'clip-disect'. Did you mean clip_dissect?"),
        (["--task", TASK, "--suites", "imagenetc"], "Unknown suite 'imagenetc'. Did you mean imagenet_c"),
        (["--task", TASK, "--severities", "3,6"], "Severity 6 does not exist: give whole numbers from 1 to 5."),
        (["--task", TASK, "--severities", "0"], "Severity 0 does not exist"),
        (
            ["--task", TASK, "--unit-ids", "5,2048"],
            "Unit 2048 does not exist: task resnet50_layer4 has units 0 to 2047.",
        ),
        (["--task", TASK, "--unit-ids=-1"], "Unit -1 does not exist: give whole numbers from 0."),
        (["--task", TASK, "--units", "0"], "--units 0 labels nothing"),
        (["--task", TASK, "--units", "4000"], "--units 4000 is more than the 2048 units of task resnet50_layer4."),
        (["--task", TASK, "--units", "3", "--unit-ids", "1"], "cannot be given together"),
        (["--task", TASK, "--device", "gpu"], "must be auto, cpu, mps, cuda or cuda:NUMBER, not 'gpu'"),
        (["--task", TASK, "--repeats", "0"], "'repeats' cannot be 0"),
        (["--task", TASK, "--set", "dnd.k=1", "--set", "dnd.k=2"], "--set gives dnd.k twice."),
        (["--task", TASK, "--set", "dn.k=1"], "Unknown method 'dn'"),
        (["--task", TASK, "--methods", "dnd", "--set", "clip_dissect.k=1"], "clip_dissect is not among --methods"),
        (["--task", "none/such.yaml"], "There is no file none/such.yaml."),
    ],
)
def test_mistakes_are_one_sentence_with_exit_code_1(runner, arguments, message):
    result = call("run", *arguments)
    assert result.exit_code == 1, result.output
    assert message in sentence(result)
    assert result.stdout == ""
    assert runner.asked == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--task", TASK, "--severities", "strong"],
        ["--task", TASK, "--units", "many"],
        ["--task", TASK, "--seed", "x"],
        ["--task", TASK, "--set", "similarity=wpmi"],
        ["--task", TASK, "--sverities", "3"],
        ["--task", TASK, "--images", ""],
    ],
)
def test_unreadable_command_lines_are_usage_errors(runner, arguments):
    result = call("run", *arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert runner.asked == []


def test_an_unknown_profile_has_a_suggestion():
    result = call("run", "--task", TASK, "--profile", "nowhere")
    assert result.exit_code == 1
    assert sentence(result).startswith("Unknown profile 'nowhere'.")


def test_two_tasks_of_one_name_are_refused(runner, tmp_path):
    text = Path(sys.modules["tasks"].__path__[0], "definitions", f"{TASK}.yaml").read_text()
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(text.replace(f"name: {TASK}", "name: mine"))
    result = call("run", "--task", f"{tmp_path / 'a.yaml'},{tmp_path / 'b.yaml'}")
    assert result.exit_code == 1
    assert "Two of the tasks are named mine" in sentence(result)


def test_errors_of_the_store_are_one_sentence(runner):
    runner.error = StoreError("No space left to write x: 10 bytes needed.\nand [red]more")
    result = call("run", "--task", TASK)
    assert result.exit_code == 1
    assert sentence(result) == "No space left to write x: 10 bytes needed. and [red]more"


def test_faults_of_ours_keep_their_traceback(runner):
    runner.error = ZeroDivisionError("ours")
    assert isinstance(call("run", "--task", TASK).exception, ZeroDivisionError)


def test_a_missing_package_gets_its_install_line(runner):
    runner.error = ModuleNotFoundError("No module named 'no_such_package'", name="no_such_package.part")
    result = call("run", "--task", TASK)
    assert result.exit_code == 1
    assert (
        sentence(result)
        == "This needs the package no-such-package, which is not installed: pip install no-such-package"
    )


def test_optional_packages_name_their_extra(monkeypatch):
    requirements = ["numpy>=2", 'sentence-transformers<7,>=5; extra == "sentence"', "gguf>1 ; extra == 'llm'"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: requirements)

    def said(module: str) -> str | None:
        return missing_package(ModuleNotFoundError(name=module))

    assert said("sentence_transformers.models").endswith('pip install "clear-benchmark[sentence]"')
    assert said("gguf").endswith('pip install "clear-benchmark[llm]"')
    assert said("cv2").endswith("pip install opencv-python")
    assert said("tasks.nothing") is None


def test_ctrl_c_says_how_to_continue(runner, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmark", "run", "--task", TASK, "--out", "my runs"])
    runner.error = KeyboardInterrupt()
    result = call("run", "--task", TASK, "--out", "my runs")
    assert result.exit_code == 130
    again = f"python -m benchmark run --task {TASK} --out 'my runs'"
    assert sentence(result) == f"Interrupted. Finished work is kept; to continue: {again}"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_real_process_with_their_exit_code(tmp_path, number, code):
    script = (
        "import sys, time, types, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "fake = types.ModuleType('benchmark.runner')\n"
        "def run(options, display, tasks):\n"
        "    display.message('running')\n"
        "    time.sleep(60)\n"
        "fake.run = run\n"
        "import benchmark, benchmark.core.preflight\n"
        "benchmark.core.preflight.profile_path = lambda name: name\n"
        "sys.modules['benchmark.runner'] = benchmark.runner = fake\n"
        f"sys.argv = ['benchmark', 'run', '--task', '{TASK}']\n"
        "from benchmark.cli import main\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert process.stderr.readline().strip() == "running"
    process.send_signal(number)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == code
    assert "to continue: python -m benchmark run" in rest
    assert "Traceback" not in rest


def test_a_reader_that_has_seen_enough_is_no_error():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "benchmark", "show", TASK]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
