"""Submissions: a packed run (``leaderboard.board.pack``) with a contact, in one zip file, from people nobody knows.

What is checked here needs no model: the archive, the texts, that the tables fit each other and the run's settings, and
that the means follow from the scores. ``benchmark.external.recompute`` and ``benchmark.commands.validate`` do the rest.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from leaderboard.board.pack import pack_run
from leaderboard.board.summary import summarise
from leaderboard.store import atomic
from leaderboard.store.errors import StoreError
from leaderboard.store.escape import plain, terminal
from leaderboard.store.identity import safe_name
from leaderboard.store.run_folder import RunFolder, is_bottleneck
from leaderboard.store.schema import EVIDENCE, FAITHFULNESS, LABELS, SCORES, SUMMARY, THUMBNAILS, UNIT_MEASURES

LARGEST: Final = 25 * 2**20
"""Size of a submission in bytes: what issue trackers and mail servers take as one attachment."""

SUFFIX: Final = ".clear.zip"

VALIDATION: Final = "validation"
"""Where ``run.json`` says, among its facts, what a validation found; a submission must not say it of itself."""

_UNPACKED: Final = 16 * LARGEST
_RUN_JSON: Final = 2 * 2**20
_ROWS: Final = 5_000_000
_LONGEST: Final = 2_000
"""Characters of a text."""

_PIXELS: Final = 96
_TABLES: Final = (LABELS, SCORES, SUMMARY, FAITHFULNESS, EVIDENCE, THUMBNAILS)
_MEMBERS: Final = frozenset({"run.json", *(f"{schema.name}.parquet" for schema in _TABLES)})
_COMPRESSIONS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others decompress without a bound
_OF_IMAGES: Final = (
    "evidence_overlap",
    "rank_biased_overlap",
    "activation_correlation",
    *(column.name for column in UNIT_MEASURES),
)
OF_UNITS: Final = ("dead", "truth", "truth_op", *_OF_IMAGES)
"""Columns of the scores that do not depend on the method."""

_DRAWN: Final = ("p_value", "p_adjusted")
_ROUNDING: Final = 1e-6


@dataclass(frozen=True)
class Submission:
    """An unpacked submission.

    Attributes:
        info: Its ``run.json``.
    """

    path: Path
    sha256: str
    folder: RunFolder
    info: Mapping[str, Any]

    @property
    def name(self) -> str:
        """A file name for it, another one for every other content."""
        return safe_name(f"{self.path.name.removesuffix(SUFFIX)}-{self.sha256[:8]}")


def write_submission(
    run: Path, contact: str, note: str = "", out: Path | None = None, units: int = 6, images: int = 4
) -> Path:
    """Pack a finished run into one file, and check it as ``read_submission`` and ``check`` do.

    Args:
        contact: Who answers questions about it: a mail address or a page. Stays in the file; boards do not show it.
        out: The file to write; by default the run's name in the current folder.
        units: See ``pack_runs``, as for ``images``.

    Raises:
        StoreError: No finished run, a concept bottleneck, a missing contact, a text that cannot be shown as it is, or
            more than ``LARGEST`` bytes.
    """
    folder = RunFolder(run)
    info = folder.info()
    folder.check_tables()
    if not contact.strip():
        raise StoreError("A submission needs --contact: a mail address or a page, in case somebody has a question.")
    kept = {name: facts for name, facts in info["facts"].items() if name not in (VALIDATION, "finished")}
    said = {"submission": {"contact": contact.strip(), "note": note.strip()}}
    path = out or Path(f"{safe_name(run.resolve().name)}{SUFFIX}")
    with tempfile.TemporaryDirectory(prefix="clear-submit-") as temporary:
        if not is_bottleneck(info):
            pack_run(folder, Path(temporary) / "run", units, images, facts=kept | said, studies=False)
        else:
            raise StoreError(f"{run} trained a concept bottleneck; only runs that label units can be submitted.")
        data = _zipped(Path(temporary) / "run")
        if len(data) > LARGEST:
            raise StoreError(
                f"The submission would have {len(data) / 2**20:.1f} MB, more than {LARGEST // 2**20}: keep the "
                "pictures of fewer --units, or run fewer conditions."
            )
        check(_unpacked(data, path, Path(temporary) / "again"))
    atomic.write_bytes(path, data)
    return path


def read_submission(path: Path, into: Path) -> Submission:
    """Unpack a submission; nothing in it decides where a file is written, and no more is unpacked than is allowed.

    Args:
        into: A folder that does not exist yet.

    Raises:
        StoreError: It is too large, damaged, or holds what no submission has.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {error.strerror}.") from error
    return _unpacked(data, path, into)


def check(submission: Submission) -> pd.DataFrame:
    """Everything that can be checked without a model.

    Returns:
        The summary of its scores, computed anew.

    Raises:
        StoreError: The first thing that does not fit.
    """
    try:
        return _checked(submission)
    except StoreError as error:
        raise StoreError(str(error).replace(str(submission.folder.path), str(submission.path))) from error
    # What else is wrong in a run.json that somebody edited.
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _refused(submission, f"its run.json is damaged ({type(error).__name__}: {error})") from error


def _checked(submission: Submission) -> pd.DataFrame:
    info = submission.info
    facts, stated = info["facts"], info["facts"].get("finished", {})
    reasons = {
        "it is a concept bottleneck, which labels no units": is_bottleneck(info),
        "it says of itself whether it is verified": VALIDATION in facts,
        "it has no contact": not str(facts.get("submission", {}).get("contact", "")).strip(),
        "run.json does not list exactly its tables": "seal" not in stated
        or {*stated["files"]} != {path.name for path in submission.folder.path.glob("*.parquet")},
    }
    for reason, holds in reasons.items():
        if holds:
            raise _refused(submission, reason)
    for place, text in _texts(info, "run.json"):
        _check_text(submission, place, text)
    tables = {schema.name: submission.folder.read_table(schema.name) for schema in _TABLES}
    for schema in _TABLES:
        for column in schema.columns:
            for text in tables[schema.name][column.name].dropna().unique() if column.kind == "text" else ():
                _check_text(submission, f"{schema.name}.{column.name}", text)
    for webp in tables[THUMBNAILS.name]["webp"]:
        _check_picture(submission, webp)
    _check_cells(submission, tables[SCORES.name])
    _check_labels(submission, tables)
    return _checked_summary(submission, tables[SUMMARY.name], tables[SCORES.name])


def differing(first: pd.Series, second: pd.Series, tolerance: float) -> np.ndarray:
    """Where two columns of one kind differ: numbers by more than ``tolerance``, or one of the two is absent.

    Args:
        first: Numbers, flags or texts.
        second: Of the same rows.
        tolerance: Greatest difference of numbers.
    """
    absent = np.asarray(first.isna()), np.asarray(second.isna())
    both = ~absent[0] & ~absent[1]
    kind, values = (float if first.dtype.kind == "f" else object), (first.to_numpy(object), second.to_numpy(object))
    one, other = (each[both].astype(kind) for each in values)
    found = absent[0] != absent[1]
    found[both] = np.abs(one - other) > tolerance if kind is float else one != other
    return found


# ---- the archive ----


def _zipped(folder: Path) -> bytes:
    """The files of a folder; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _unpacked(data: bytes, path: Path, into: Path) -> Submission:
    if len(data) > LARGEST:
        raise StoreError(f"{path} has more than {LARGEST // 2**20} MB, the most that a submission may have.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            contents = dict(_contents(archive, path))
    # What else a damaged archive makes the library raise: struct.error, EOFError, NotImplementedError, OSError, …
    except StoreError:
        raise
    except Exception as error:
        raise StoreError(f"{path} is no zip file, or a damaged one ({error}); ask for it again.") from error
    into.mkdir(parents=True)
    for name, content in contents.items():
        if name != "run.json":
            _check_parquet(content, path, name)
        (into / name).write_bytes(content)
    folder = RunFolder(into)
    try:
        info = folder.info()
    except StoreError as error:
        raise StoreError(str(error).replace(str(into), str(path))) from error
    return Submission(path, hashlib.sha256(data).hexdigest(), folder, info)


def _contents(archive: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, bytes]]:
    members = archive.infolist()
    names = [member.filename for member in members]
    strange = [name for name in names if name not in _MEMBERS]
    if strange:
        raise StoreError(f"{path} contains {terminal(strange[0], 80)!r}, which no submission has.")
    if len(set(names)) < len(names) or "run.json" not in names:
        raise StoreError(f"{path} contains no run.json, or a file twice.")
    sizes = {member.filename: member.file_size for member in members}
    if sum(sizes.values()) > _UNPACKED or sizes["run.json"] > _RUN_JSON:
        raise StoreError(f"{path} would unpack to more than any submission has ({sum(sizes.values()):,} bytes).")
    for member in members:
        if member.compress_type not in _COMPRESSIONS or member.flag_bits & 1:
            raise StoreError(f"{path}: {member.filename} is encrypted, or compressed in an unusual way.")
        yield member.filename, archive.read(member)  # reads the stated size at most, and checks the sum


def _check_parquet(content: bytes, path: Path, name: str) -> None:
    """A small Parquet file may state, or hold, very much more than its size."""
    try:
        facts = pq.ParquetFile(pa.BufferReader(content)).metadata
        groups = [facts.row_group(number) for number in range(facts.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: {name} is damaged ({error}).") from error
    if facts.num_rows > _ROWS or size > _UNPACKED:
        raise StoreError(f"{path}: {name} states {facts.num_rows:,} rows in {size:,} bytes, more than any run has.")


# ---- texts and pictures ----


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """All texts of a JSON value, names among them, and where each is."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield f"{place}: a name", name
            yield from _texts(part, f"{place}: {name}")
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, place)


def _check_text(submission: Submission, place: str, text: str) -> None:
    """What a reader would see differs from what is compared, or hides something: no honest result needs that."""
    if plain(text) != text or len(text) > _LONGEST:
        shown = ascii(text if len(text) <= 60 else text[:57] + "...")
        raise _refused(
            submission, f"{terminal(place, 120)} has hidden characters or more than {_LONGEST:,} characters: {shown}"
        )


def _check_picture(submission: Submission, webp: bytes) -> None:
    try:
        with Image.open(io.BytesIO(webp), formats=("WEBP",)) as picture:
            fits = max(picture.size) <= _PIXELS and getattr(picture, "n_frames", 1) == 1
    except (OSError, ValueError, Image.DecompressionBombError):
        fits = False
    if not fits:
        raise _refused(submission, f"a thumbnail is no WebP picture of at most {_PIXELS} pixels a side")


# ---- tables ----


def _check_cells(submission: Submission, scores: pd.DataFrame) -> None:
    identity = submission.info["identity"]
    content = identity["content"]
    if not len(scores):
        raise _refused(submission, "it has no scores")
    if {*scores["task"]} - {*content["tasks"]} or {*scores["profile"]} != {identity["profile"]}:
        raise _refused(submission, "its scores are of another task or profile than its settings")
    for task, rows in scores.groupby("task"):
        wanted = {("clean", 0, repeat) for repeat in range(int(identity["repeats"]))}
        wanted |= {(name, severity, 0) for name, severity in content["conditions"][task]}
        units = {*rows["unit"]}
        for cell in (own for _, own in rows.groupby(["method", "perturbation", "severity", "repeat"])):
            method, *condition = cell[["method", "perturbation", "severity", "repeat"]].iloc[0]
            if method not in content["methods"] or tuple(condition) not in wanted:
                raise _refused(submission, f"{task}: {method}, {condition} is no cell of its settings")
            if {*cell["unit"]} != units:
                raise _refused(submission, f"{task}: {method}, {condition} has other units than the rest")
        for names, column in (
            (("unit",), "dead"),
            (("unit",), "truth"),
            *((("unit", "perturbation", "severity"), column) for column in OF_UNITS),
        ):
            if rows.groupby(list(names))[column].nunique(dropna=False).to_numpy().max() > 1:
                raise _refused(submission, f"{task}: {column} of one unit differs between methods or conditions")


def _check_labels(submission: Submission, tables: Mapping[str, pd.DataFrame]) -> None:
    place = ["task", "profile", "method", "perturbation", "severity", "repeat", "unit", "label"]
    scores, labels = tables[SCORES.name], tables[LABELS.name]
    clean = scores["perturbation"].eq("clean") & scores["repeat"].eq(0) & scores["label"].notna()
    # A dead unit is not scored, but a method may have labelled it.
    alive = scores.loc[~scores["dead"].to_numpy(bool), ["task", "unit"]].drop_duplicates()
    best = labels.loc[labels["rank"].eq(1).to_numpy(), place].merge(alive, on=["task", "unit"])
    said = scores.loc[clean.to_numpy(), place]
    if len(said) != len(best) or len(said.merge(best, on=place)) != len(best):
        raise _refused(submission, "the clean labels of its scores are not those of its labels")
    measured = tables[FAITHFULNESS.name][place]
    if len(measured.merge(scores[place], on=place)) != len(measured):
        raise _refused(submission, "its faithfulness is of other labels than its scores")


def _checked_summary(submission: Submission, summary: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The summary, once its means and counts are known to follow from the scores.

    What is drawn, its intervals and p-values, may differ: where resamples tie, a rounding of 1e-16 decides.
    """
    key = list(SUMMARY.key)
    found = summarise(scores, int(submission.info["identity"]["seed"]))
    both = summary.merge(found, on=key, suffixes=("", "_found"), how="outer", indicator=True)
    if set(both["_merge"]) != {"both"}:
        raise _refused(submission, "its summary has other rows than its scores have conditions")
    for column in SUMMARY.columns:
        if column.name not in key and not column.name.endswith(("_low", "_high")) and column.name not in _DRAWN:
            stated, right = (pd.Series(both[name]) for name in (column.name, f"{column.name}_found"))
            if differing(stated.astype(float), right.astype(float), _ROUNDING).any():
                raise _refused(submission, f"{column.name} of its summary does not follow from its scores")
    return found


def _refused(submission: Submission, reason: str) -> StoreError:
    return StoreError(f"{submission.path} is refused: {terminal(reason)}.")
