"""Scores labels that were made elsewhere: stability, naming, and agreement between methods. Reads no images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd
from pydantic import BaseModel

from benchmark.core.options import Device, Seed
from benchmark.core.prepare import pick_device
from benchmark.core.scoring import CleanLabels, LabelEmbeddings, compare_with_clean
from benchmark.external.agreement import agreement
from benchmark.external.files import CLEAN, LabelFile, check_units
from benchmark.external.reference_scores import WORD, name_scores
from benchmark.external.references import References, profile_references, read_references
from leaderboard.board.facts import RunFacts
from leaderboard.board.summary import summarise
from leaderboard.store import atomic
from leaderboard.store.escape import csv
from leaderboard.store.frames import parquet_bytes, to_arrow
from leaderboard.store.identity import as_json
from leaderboard.store.schema import LABELS, SCORES, SUMMARY
from metrics.bertscore import BertScorer
from tasks.common.errors import UserError
from tasks.common.validation import parse
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile
from tasks.schema import Task

_IMAGES: Final = "Faithfulness and the overlap of evidence are not scored: they take the task's images."


@dataclass(frozen=True)
class ScoredLabels:
    """Scores of labels that were made elsewhere.

    Attributes:
        facts: Task, profile with its note, files, references with their hash, and what is not scored and why; JSON.
        about_run: Further facts for the tables.
        labels: Columns of ``leaderboard.store.schema.LABELS``.
        scores: Columns of ``leaderboard.store.schema.SCORES``; columns that need images are absent.
        summary: Columns of ``leaderboard.store.schema.SUMMARY``.
        naming: See ``benchmark.external.reference_scores``; empty without reference names.
        agreement: See ``benchmark.external.agreement``; empty for one method.
    """

    facts: dict[str, Any]
    about_run: RunFacts
    labels: pd.DataFrame
    scores: pd.DataFrame
    summary: pd.DataFrame
    naming: pd.DataFrame
    agreement: pd.DataFrame

    @property
    def perturbed(self) -> bool:
        """Whether there are labels under a perturbation."""
        return _perturbed(self.scores)

    def as_json(self) -> dict[str, Any]:
        """Facts and tables of means as JSON; absent values are null."""
        tables = {"summary": self.summary, "naming": self.naming, "agreement": self.agreement}
        return self.facts | {
            name: as_json(table.astype(object).where(table.notna(), None).to_dict("records"))
            for name, table in tables.items()
        }


class _Choices(BaseModel):
    device: Device
    seed: Seed


class _Labels(NamedTuple):
    """The rank-1 labels of one method.

    Attributes:
        units: Units in the file, including those without a label, sorted.
        conditions: (perturbation, severity, repeat), clean repeat 0 first, the others in the file's order.
        said: Condition → unit → label.
    """

    units: list[int]
    conditions: list[tuple[str, int, int]]
    said: Mapping[tuple[str, int, int], Mapping[int, str]]

    @property
    def clean(self) -> Mapping[int, str]:
        """Unit → its label on clean images."""
        return self.said[CLEAN, 0, 0]

    def under(self, condition: tuple[str, int, int]) -> list[str | None]:
        """One label per unit; None where missing."""
        return [self.said[condition].get(unit) for unit in self.units]


def score_labels(
    task: Task,
    files: Sequence[LabelFile],
    profile: str,
    references: Path | None = None,
    device: str = "auto",
    seed: int = 0,
    bertscore: Callable[[str], BertScorer] | None = None,
) -> ScoredLabels:
    """Score labels in a task.

    Args:
        files: Labels from ``benchmark.external.files.gather``.
        profile: Name or file of the profile, for its text encoders and its truth.
        references: List of class names, for the units of a classifier's output.
        bertscore: Loads the language model on a device, for BERTScore against the references; see ``bert_scorer``.

    Raises:
        UserError: An invalid device or seed, units without a class, a list of classes for units without classes, or a
            missing part of the profile.
    """
    checked = parse(_Choices, {"device": device, "seed": seed}, "the command line")
    named = _named_classes(task, files, references)
    loaded = load_profile(profile)
    roles = Roles(loaded, pick_device(checked.device))
    known = named or profile_references(task, roles)
    if task.truth == "class_names" and named is None and known is not None:
        check_units(
            files,
            len(known.of_unit),
            f"{task.layer} in profile {loaded.name}",
            "--references FILE gives the class names of a different network, one line per class.",
        )
    frame = pd.concat([file.frame for file in files], ignore_index=True)
    methods = dict(_by_method(frame))
    embeddings = LabelEmbeddings(roles, _texts(methods, known))
    scorer = bertscore(str(roles.device)) if bertscore and known else None
    scores = _scores(task.name, loaded.name, methods, known, embeddings)
    clean = {name: labels.clean for name, labels in methods.items()}
    units = {name: labels.units for name, labels in methods.items()}
    facts = {
        "task": task.name,
        "profile": loaded.name,
        "note": loaded.note,
        "files": [_file_facts(file) for file in files],
        "references": known and {"source": known.source, "sha256": known.sha256, "units": len(known.of_unit)},
        "not_scored": _not_scored(task, loaded.name, known, _perturbed(scores), len(methods)),
        "texts_cut_by": embeddings.cut(),
    }
    return ScoredLabels(
        facts=as_json(facts),
        about_run=RunFacts(seed, loaded.note),
        labels=_stored(frame, task.name, loaded.name),
        scores=scores,
        summary=summarise(scores, seed),
        naming=name_scores(units, clean, known, embeddings, seed, scorer) if known else pd.DataFrame(),
        agreement=agreement(clean, embeddings, seed),
    )


def bert_scorer(folder: Path, layer: int) -> Callable[[str], BertScorer]:
    """What loads a language model for BERTScore.

    Args:
        folder: With config.json, model.safetensors and the tokenizer's files.
        layer: From 1; 17 of roberta-large as published.
    """

    def load(device: str) -> BertScorer:
        try:
            return BertScorer(folder, layer, device)
        except ValueError as error:
            raise UserError(f"--bertscore: {error}") from error

    return load


def write_scored_labels(scored: ScoredLabels, folder: Path) -> None:
    """Write ``labels``, ``scores`` and ``summary`` as Parquet, ``naming.csv``, ``agreement.csv``, ``score.json``.

    ``references.sha256`` contains the hash of the reference names, in the form of ``sha256sum``.

    Raises:
        UserError: The folder contains a run, whose tables this would replace.
        StoreError: The folder cannot be written.
    """
    if (folder / "run.json").exists():
        raise UserError(f"{folder} contains a run, whose tables would be replaced; choose another --out.")
    for schema, frame in ((LABELS, scored.labels), (SCORES, scored.scores), (SUMMARY, scored.summary)):
        atomic.write_bytes(folder / f"{schema.name}.parquet", parquet_bytes(to_arrow(schema, frame)))
    for name, frame in (("naming", scored.naming), ("agreement", scored.agreement)):
        if len(frame):
            atomic.write_bytes(folder / f"{name}.csv", _csv(frame).encode())
    known = scored.facts["references"]
    if known:
        line = f"{known['sha256']}  {Path(known['source']).name}\n"
        atomic.write_bytes(folder / "references.sha256", line.encode("utf-8", "replace"))
    atomic.write_json(folder / "score.json", scored.facts)


def _named_classes(task: Task, files: Sequence[LabelFile], path: Path | None) -> References | None:
    if path is None:
        return None
    if task.truth not in (None, "class_names"):
        raise UserError(
            f"--references lists classes, but the units of {task.layer} are not classes; omit it, or choose a task on "
            "the network's output."
        )
    known = read_references(path)
    check_units(files, len(known.of_unit), f"the list of classes {path}")
    return known


def _by_method(frame: pd.DataFrame) -> Iterator[tuple[str, _Labels]]:
    best = frame.loc[frame["rank"].eq(1).to_numpy()]
    for method, rows in best.groupby("method", sort=False):
        said: dict[tuple[str, int, int], dict[int, str]] = {(CLEAN, 0, 0): {}}
        places = zip(rows["condition"], rows["severity"], rows["repeat"], rows["unit"], rows["label"], strict=True)
        for condition, severity, repeat, unit, label in places:
            labels = said.setdefault((str(condition), int(severity), int(repeat)), {})
            if label is not None:
                labels[int(unit)] = label
        yield str(method), _Labels(sorted(set(map(int, rows["unit"]))), list(said), said)


def _texts(methods: Mapping[str, _Labels], known: References | None) -> list[str]:
    texts = [label for labels in methods.values() for named in labels.said.values() for label in named.values()]
    return texts + ([reference.text for reference in known.of_unit.values()] + [WORD] if known else [])


def _scores(
    task: str, profile: str, methods: Mapping[str, _Labels], known: References | None, embeddings: LabelEmbeddings
) -> pd.DataFrame:
    frames = []
    for method, labels in methods.items():
        again = [labels.under(place) for place in labels.conditions if place[0] == CLEAN and place[2] > 0]
        clean = CleanLabels.of(labels.under((CLEAN, 0, 0)), again, embeddings)
        truth = [known.of_unit.get(unit) if known else None for unit in labels.units]
        for condition, severity, repeat in labels.conditions:
            now = labels.under((condition, severity, repeat))
            columns = {
                "task": task,
                "profile": profile,
                "method": method,
                "perturbation": condition,
                "severity": severity,
                "repeat": repeat,
                "unit": labels.units,
                **compare_with_clean(now, clean, embeddings),
                # Which units are dead is unknown without the images.
                "dead": False,
                "missing": [a is None or b is None for a, b in zip(now, clean.labels, strict=True)],
                "truth": [reference and reference.truth for reference in truth],
                "truth_op": [reference and reference.op for reference in truth],
            }
            for name, said in (("right_clean", clean.labels), ("right", now)):
                columns[name] = [
                    None if label is None or reference is None else reference.matches(label)
                    for label, reference in zip(said, truth, strict=True)
                ]
            frames.append(pd.DataFrame(columns))
    # Columns that need images stay absent.
    return pd.concat(frames, ignore_index=True).reindex(columns=[column.name for column in SCORES.columns])


def _stored(frame: pd.DataFrame, task: str, profile: str) -> pd.DataFrame:
    given = frame.loc[frame["label"].notna().to_numpy()]
    return given.drop(columns="layer").rename(columns={"condition": "perturbation"}).assign(task=task, profile=profile)


def _perturbed(scores: pd.DataFrame) -> bool:
    return bool(scores["perturbation"].ne(CLEAN).any())


def _not_scored(task: Task, profile: str, known: References | None, perturbed: bool, methods: int) -> list[str]:
    sentences = []
    if not perturbed:
        sentences.append("Stability is not scored: the files hold labels on clean images only.")
    if known is None:
        reasons = {
            "best_concept": "what these units respond to is found by a pass over the task's images, as run makes it.",
            "class_names": f"profile {profile} does not know the classes; --references FILE names them, one a line.",
        }
        reason = reasons.get(task.truth or "", "nobody knows what these units should be called.")
        sentences.append(f"Accuracy is not scored: {reason}")
    if methods < 2:
        sentences.append("Agreement is not scored: it takes two methods.")
    return [*sentences, _IMAGES]


def _file_facts(file: LabelFile) -> dict[str, Any]:
    facts, frame = file.facts, file.frame
    clean = frame.loc[(frame["rank"].eq(1) & frame["condition"].eq(CLEAN) & frame["repeat"].eq(0)).to_numpy()]
    methods = {}
    for method, rows in frame.groupby("method", sort=False):
        named = clean.loc[(clean["method"].eq(method) & clean["label"].notna()).to_numpy(), "unit"].nunique()
        units = rows["unit"].nunique()
        methods[str(method)] = {"units": units, "missing": units - named}
    return {
        "path": facts.path,
        "format": facts.format,
        "methods": methods,
        "rows": facts.rows,
        "first_unit": facts.first_unit,
        "encoding": facts.encoding,
        "sha256": facts.sha256,
        "skipped": facts.skipped,
        "notes": facts.notes,
    }


def _csv(frame: pd.DataFrame) -> str:
    texts = {
        name: frame[name].map(csv, na_action="ignore")
        for name in ("first", "second", "method", "text")
        if name in frame
    }
    return frame.assign(**texts).to_csv(index=False, lineterminator="\n", float_format="%.6f")
