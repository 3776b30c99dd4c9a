"""``validate``: whether submitted runs (``leaderboard.board.submission``) are what they say, and what may be believed.

What a submission states decides neither which code runs nor which file is read: it names tasks, suites, profiles and
methods that are installed here, or it is refused.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from benchmark.commands.console import MISTAKE, json_text, say
from benchmark.commands.options_cli import option

if TYPE_CHECKING:
    from benchmark.core.options import RunOptions
    from benchmark.execution.prepare import Job
    from leaderboard.board.submission import Submission

VERIFIED, SELF_REPORTED = "verified", "self-reported"

_LEAST: Final = 4
"""Units per task that are labelled again; 1 % of them where that is more."""

_DIFFERING: Final = 0.05
"""Share of labels that may differ from those of the new run: ties break differently on other machines."""

_SETUP: Final = ("numpy", "open_clip_torch", "opencv-python", "timm", "torch", "torchvision", "transformers")
"""Packages whose versions may change a label."""


@dataclass(frozen=True)
class Verdict:
    """What a validation found.

    Attributes:
        refused: Why it is refused; empty if it is accepted.
        sha256: Of the submission; empty if it could not be read.
        methods: Method → ``verified`` or ``self-reported``.
        why: Method → why it is only self-reported.
        units: Task → the units that were labelled again.
    """

    path: Path
    refused: str = ""
    sha256: str = ""
    methods: Mapping[str, str] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"sha256": self.sha256, "methods": self.methods, "why": self.why, "units": self.units}


def validate(
    packs: Annotated[list[Path], typer.Argument(help="Submissions, as python -m leaderboard submit writes them.")],
    out: Annotated[
        Path | None, typer.Option(help="Write the accepted ones as run folders into this folder, for a board.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--label-again/--no-label-again", help="Label a sample of the units again.")
    ] = True,
    nonce: Annotated[
        str, typer.Option(help="Any text that the submitter could not know: it decides which units are labelled again.")
    ] = "",
    device: Annotated[str, option("device")] = "auto",
    cache: Annotated[str | None, option("cache")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check submissions: recompute their scores, label a sample of their units again, refuse what does not fit."""
    from tasks.common.offline import go_offline

    go_offline()  # a stranger's file must not make this machine fetch anything, or pay a language model
    verdicts = [validate_one(pack, out, again, nonce, device, cache) for pack in packs]
    if as_json:
        facts = [{"path": str(one.path), "refused": one.refused, **one.facts()} for one in verdicts]
        typer.echo(json_text(facts))
    for verdict in () if as_json else verdicts:
        _print(verdict)
    if any(verdict.refused for verdict in verdicts):
        raise typer.Exit(MISTAKE)


def validate_one(
    path: Path,
    out: Path | None = None,
    again: bool = True,
    nonce: str = "",
    device: str = "auto",
    cache: str | None = None,
) -> Verdict:
    """Validate one submission.

    Args:
        out: See ``validate``, as for the others.
    """
    from leaderboard.board.submission import VALIDATION, check, read_submission
    from leaderboard.store import atomic
    from leaderboard.store.errors import StoreError
    from leaderboard.store.run_folder import finished, table_hashes
    from tasks.common.errors import UserError

    sha256 = ""
    with tempfile.TemporaryDirectory(prefix="clear-validate-") as temporary:
        try:
            submission = read_submission(path, Path(temporary) / "run")
            sha256 = submission.sha256
            summary = check(submission)
            verdict = _validated(submission, Path(temporary), again, nonce, {"device": device, "cache": cache})
        except (UserError, StoreError) as error:
            return Verdict(path, str(error), sha256)
        if out is not None:
            submission.folder.write_table("summary", summary)
            copy = out / submission.name
            shutil.copytree(submission.folder.path, copy, dirs_exist_ok=True)
            facts = {**submission.info["facts"], VALIDATION: verdict.facts()}
            facts["finished"] = finished(submission.info, table_hashes(copy))
            atomic.write_json(copy / "run.json", {**submission.info, "facts": facts})
    return verdict


def _validated(submission: Submission, temporary: Path, again: bool, nonce: str, places: Mapping[str, Any]) -> Verdict:
    from benchmark.core.display import Display
    from benchmark.core.preflight import check
    from benchmark.execution.prepare import load_parts, prepare
    from benchmark.external.recompute import mismatch_with_labels
    from leaderboard.store.schema import SCORES
    from tasks.common.errors import UserError
    from tasks.profiles.build import Roles

    methods = sorted(submission.info["identity"]["content"]["methods"])
    installed = [name for name in methods if _is_installed(name)]
    # Without any, the rest of the settings is still checked.
    options = _options(submission, installed or ["constant_label"], places)
    try:
        job = prepare(load_parts(options, check(options), Roles), Display("quiet"))
    except UserError as error:
        raise UserError(f"{submission.path} cannot be validated here: {error}") from error
    _check_content(submission, job, installed)
    wrong = mismatch_with_labels(submission.folder.read_table(SCORES.name), job.prepared.works, job.roles)
    if wrong is not None:
        raise UserError(f"{submission.path} is refused: {wrong}.")
    why = {name: "this method is not installed here" for name in methods if name not in installed}
    units: dict[str, Sequence[int]] = {}
    if again and installed:
        units = {work.task.name: _sample(work.units, f"{nonce}{submission.sha256}") for work in job.prepared.works}
        for task, chosen in units.items():
            changes = {"tasks": (task,), "units": None, "unit_ids": tuple(chosen), "out": temporary / task}
            why |= _labelled_again(submission, options.model_copy(update=changes))
    elif installed:
        why |= dict.fromkeys(installed, "no unit was labelled again")
    status = {name: SELF_REPORTED if name in why else VERIFIED for name in methods}
    return Verdict(submission.path, "", submission.sha256, status, why, units)


def _is_installed(name: str) -> bool:
    from baselines import registry
    from tasks.common.errors import UserError

    try:
        registry.entry(name)
    except UserError:
        return False
    return True


def _options(submission: Submission, methods: Sequence[str], places: Mapping[str, Any]) -> RunOptions:
    """The submission's settings as options, as far as a stranger may choose them."""
    from pydantic import ValidationError

    from benchmark.core.options import IDENTITY, LATER, RunOptions
    from tasks.catalogue import is_file
    from tasks.common.errors import UserError

    identity = submission.info["identity"]
    given = {name: identity[name] for name in IDENTITY - LATER if name in identity}
    files = [name for name in (*given["tasks"], *(given["suites"] or ()), given["profile"]) if is_file(str(name))]
    if files:
        raise UserError(f"{submission.path} is refused: it names a file, {ascii(files[0])[:80]}.")
    own = sorted(name for name in LATER if identity.get(name) is not None)
    if own:
        raise UserError(f"{submission.path} is refused: it was made with --{own[0]} of its own.")
    given["methods"] = methods
    given["method_options"] = {name: own for name, own in given["method_options"].items() if name in methods}
    scope = submission.info["facts"].get("faithfulness", {}).get("scope", "none")
    try:
        return RunOptions.model_validate({**given, **places, "thumbnails": 0, "faithfulness": scope})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{submission.path} is refused: {where} in its settings: {first['msg']}.") from error


def _check_content(submission: Submission, job: Job[Any], installed: Sequence[str]) -> None:
    """Whether the settings name the same images, networks, concepts and versions as here."""
    from leaderboard.store.identity import as_json, differences
    from tasks.common.errors import UserError

    found = []
    for identity in (submission.info["identity"], as_json(job.identity)):
        # Those of methods that are not installed are unknown here.
        content = {name: part for name, part in identity["content"].items() if name != "profile_options"}
        content["conditions"] = {task: sorted(own) for task, own in content["conditions"].items()}
        own = {name: version for name, version in content["methods"].items() if name in installed}
        rest = {name: value for name, value in identity.items() if name not in ("methods", "method_options")}
        found.append(rest | {"content": content | {"methods": own}})
    changed = differences(*found)
    if changed:
        shown = changed[0].replace(" before, ", " in it, ").replace(" now", " here")
        raise UserError(f"{submission.path} is refused: other images, networks or versions than here ({shown}).")


def _sample(units: Sequence[int], seed: str) -> list[int]:
    """Some units, which follow from the seed alone, so that who submits does not choose them."""
    from tasks.common.seeding import generator

    count = min(len(units), max(_LEAST, math.ceil(len(units) / 100)))
    return sorted(units[place] for place in generator(0, "validate", seed).permutation(len(units))[:count])


def _labelled_again(submission: Submission, options: RunOptions) -> dict[str, str]:
    """Run the sample, and compare.

    Returns:
        Method → why it cannot be called verified.

    Raises:
        UserError: Labels or scores are not those of the same program with the same packages.
    """
    from benchmark import runner
    from benchmark.core.display import Display
    from benchmark.external.recompute import mismatches_of_sample
    from leaderboard.store.run_folder import RunFolder
    from leaderboard.store.schema import FAITHFULNESS, SCORES
    from tasks.common.errors import UserError

    try:
        result = runner.run(options, Display("quiet"))
    except UserError as error:
        return dict.fromkeys(options.method_names(), f"its units cannot be labelled again here: {error}")
    folder = RunFolder(result.folder)
    stated = submission.folder.read_table(SCORES.name)
    shares, wrong = mismatches_of_sample(stated, result.scores, SCORES)
    if options.faithfulness != "none" and wrong is None:
        measured = submission.folder.read_table(FAITHFULNESS.name)
        _, wrong = mismatches_of_sample(measured, folder.read_table(FAITHFULNESS.name), FAITHFULNESS)
    why, rows = {}, Counter(result.scores["method"])
    for name in options.method_names():
        if name not in shares or rows[name] < max(rows.values()):
            why[name] = "its units could not be labelled again here"
        elif shares[name] > _DIFFERING:
            why[name] = f"{shares[name]:.0%} of its labels are other ones when its units are labelled again"
        elif wrong is not None:
            why[name] = wrong
    differing = [reason for name, reason in why.items() if name in shares and (shares[name] > _DIFFERING or wrong)]
    if differing and _setup(submission.info) == _setup(folder.info()):
        raise UserError(f"{submission.path} is refused: labelled again with the same packages, {differing[0]}.")
    return why


def _setup(info: Mapping[str, Any]) -> list[str]:
    """What may make other labels of the same settings."""
    last = info["sessions"][-1]
    device = str(last["facts"].get("device", "")).partition(":")[0]
    return [device, *(str(last["packages"].get(name, "")) for name in _SETUP)]


def _print(verdict: Verdict) -> None:
    if verdict.refused:
        say(verdict.refused)
        return
    verified = [name for name, status in verdict.methods.items() if status == VERIFIED]
    said = [f"verified: {', '.join(verified)}"] if verified else []
    said += [f"self-reported: {name} ({reason})" for name, reason in verdict.why.items()]
    counts = ", ".join(f"{len(units)} units of {task}" for task, units in verdict.units.items())
    say(f"{verdict.path} fits{f'; labelled again: {counts}' if counts else ''}; {'; '.join(said)}.")
