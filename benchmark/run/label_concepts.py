"""Concept sets: a text file, or a method's labels in a run."""

from __future__ import annotations

from pathlib import Path

from baselines.concepts import load_concepts, unique_concepts
from leaderboard.board.facts import run_facts
from leaderboard.store.run_folder import RunFolder
from tasks.common.errors import UserError, unknown_name
from tasks.observe import CLEAN


def read_concepts(path: Path) -> tuple[str, ...]:
    """The concepts of a text file, of a run folder, or of one method of a run (``FOLDER:METHOD``).

    For a run: the distinct rank-1 labels on clean images of all methods but the trivial baselines, sorted.

    Raises:
        UserError: No such file, no label, or no such method.
        StoreError: The run folder cannot be read.
    """
    if path.is_dir():
        return labels_of(path)
    folder, colon, method = str(path).rpartition(":")
    if colon and not path.exists() and Path(folder).is_dir():
        return labels_of(Path(folder), method)
    return load_concepts(path)


def labels_of(folder: Path, method: str = "") -> tuple[str, ...]:
    """The distinct rank-1 labels on clean images, sorted; of all but the trivial baselines unless a method is named."""
    run = RunFolder(folder)
    labels = run.read_table("labels")
    clean = labels.loc[((labels["perturbation"] == CLEAN.name) & (labels["rank"] == 1)).to_numpy()]
    methods = sorted(set(clean["method"].tolist()))
    if method and method not in methods:
        raise unknown_name("method", method, methods)
    wanted = [method] if method else run_facts(run.info()).rivals(methods)
    concepts = unique_concepts(sorted(clean.loc[clean["method"].isin(wanted).to_numpy(), "label"].tolist()))
    if not concepts:
        raise UserError(f"The run {folder} contains no label that could be a concept.")
    return concepts
