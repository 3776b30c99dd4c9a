"""Concept sets: a text file, or a method's labels in a run; and their embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from baselines.base import Method
from baselines.concepts import load_concepts, unique_concepts
from benchmark.core.display import Display
from leaderboard.board.facts import run_facts
from leaderboard.store.run_folder import CellKey, RunFolder
from tasks.activations.spool import blocks
from tasks.common.errors import UserError, unknown_name
from tasks.observe import CLEAN
from tasks.profiles.build import Roles

_AT_ONCE: Final = 512
"""Texts between two signs of progress; a set of at most so many is embedded without any."""


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


def embed_concepts(
    concepts: Mapping[str, Sequence[str]],
    left: Iterable[CellKey],
    methods: Mapping[str, Method],
    roles: Roles,
    display: Display,
) -> None:
    """Embed large concept sets where progress is shown; methods then find the embeddings in the cache.

    Args:
        concepts: Task name → concept set.
        left: The cells of the run that are not done; only the sets that they compare with images are embedded.
    """
    needing = {name for name, method in methods.items() if {"clip", "concepts"} <= set(method.needs)}
    wanted = dict.fromkeys(key.task for key in left if key.method in needing)
    texts = list(dict.fromkeys(text for task in wanted for text in concepts[task]))
    if len(texts) <= _AT_ONCE:
        return
    if roles.clip_identity is None:  # a method would only embed them again
        display.message(f"Embedding {len(texts)} concepts, without progress, because no cache keeps them.")
        return
    with display.stage("concepts", len(texts), "concepts") as stage:
        for part in blocks(len(texts), _AT_ONCE):
            roles.clip.encode_text(texts[part.start : part.stop])
            stage.advance(len(part))
