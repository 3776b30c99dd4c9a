"""How faithful the labels of a run are, without truth: does the unit respond to its label?

A label is evaluated on clean images, whatever condition it was found under. CoSy (Kopf et al., NeurIPS 2024) generates
images of the label and compares the unit's activations on them with those on the probing images; F1, IoU, correlation,
cosine and AUPRC (Oikarinen, Yan & Weng, ICML 2025) compare the unit's activation on each probing image with the label's
presence there. DMA and activation rate ask how strongly the unit responds to the generated images, and simulation how
well the label predicts its activations (``benchmark.core.simulation``).

The control images of CoSy are the probing images, as in the paper, so some of them show the label's concept: a perfect
detector of what a share p of them shows has an AUC of 1 - p/2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from benchmark.core.display import Display
from benchmark.core.label_images import IMAGES_PER_LABEL, PROMPT, READ_AT_ONCE, LabelImages, activations, draw
from benchmark.core.prepare import OWN_IMAGES
from benchmark.core.presence import CLIP_BAR, Presence
from benchmark.core.simulation import Claim, Simulation
from benchmark.core.work import Work
from leaderboard.store.errors import StoreError
from leaderboard.store.frames import empty_frame
from leaderboard.store.identity import as_json, identity_hash
from leaderboard.store.run_folder import CellKey, RunFolder
from leaderboard.store.schema import FAITHFULNESS
from metrics.cosy import activation_rate, cosy_auc, cosy_mad, dma
from metrics.faithfulness import Faithfulness, faithfulness
from tasks.activations.spool import blocks
from tasks.cache.blobs import BlobStore
from tasks.observe import CLEAN
from tasks.profiles.build import Roles

Scope = Literal["none", "clean", "all"]
"""Which labels are measured: none, those of clean repeat 0, or those of all conditions and repeats."""

_VERSION: Final = 3
_LABELS_AT_ONCE: Final = 8
"""Labels whose images are read together."""

_KEY: Final = list(FAITHFULNESS.key)

_DRAWN: Final = {"cosy_auc": cosy_auc, "cosy_mad": cosy_mad, "dma": dma, "activation_rate": activation_rate}
"""Measures on generated images."""


def measure_run(
    folder: RunFolder,
    works: Sequence[Work],
    roles: Roles,
    seed: int,
    scope: Scope,
    display: Display,
    *,
    count: int = IMAGES_PER_LABEL,
    drawn: BlobStore | None = None,
) -> pd.DataFrame:
    """Measure a run's rank-1 labels and store the table; results stored for the same labels are reused.

    Dead units and missing labels have no row. Images are generated and searched once per distinct label, whichever
    units and methods share it; only the activations of the labelled units on the clean images are kept in memory.

    Args:
        scope: Which labels, see ``Scope``.
        count: Number of images generated per label.
        drawn: What other processes have drawn of the labels, see ``wanted_images``; the rest is drawn here.

    Returns:
        Columns of ``leaderboard.store.schema.FAITHFULNESS``; empty for ``none``.

    Raises:
        StoreError: The table cannot be written.
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    if scope == "none":
        return empty_frame(FAITHFULNESS)
    # The table and its key in run.json are two files; two processes must not interleave them.
    with folder.claim("faithfulness", wait=True):
        rows = _labels(folder, works, scope)
        claims = _claims(folder, rows)
        facts = _facts(works, roles, seed, scope, count)
        key = _key(rows, claims, facts)
        stored = _stored(folder, key)
        if stored is not None:
            return stored
        # If stopped between the two, the table must not be mistaken for the previous one.
        folder.record("faithfulness", {"key": ""})
        folder.write_table("faithfulness", _measured(rows, claims, works, roles, seed, count, display, drawn))
        folder.record("faithfulness", facts | {"key": key, "texts": len(set(rows["label"]))})
        return folder.read_table("faithfulness")


def wanted_images(
    folder: RunFolder, works: Sequence[Work], roles: Roles, seed: int, scope: Scope, count: int = IMAGES_PER_LABEL
) -> list[LabelImages]:
    """What ``measure_run`` will draw of the labels that the run has now; nothing if its table is there."""
    if scope == "none" or _without_cosy(works, roles):
        return []
    rows = _labels(folder, works, scope)
    key = _key(rows, _claims(folder, rows), _facts(works, roles, seed, scope, count))
    return [] if _stored(folder, key) is not None else _images(rows, count)


def _images(rows: pd.DataFrame, count: int) -> list[LabelImages]:
    """What is drawn of each label, sorted by label."""
    tasks = rows.groupby("label", sort=True)["task"].unique()
    return [LabelImages(str(label), count, tuple(sorted(found))) for label, found in tasks.items()]


def _key(rows: pd.DataFrame, claims: Sequence[Claim], facts: Mapping[str, Any]) -> str:
    sums = [[place, *claim[1:]] for place, claim in enumerate(claims) if claim.terms]
    return identity_hash({**facts, "labels": as_json(rows.to_numpy().tolist()), "sums": as_json(sums)})


def _labels(folder: RunFolder, works: Sequence[Work], scope: Scope) -> pd.DataFrame:
    """The rows of the table without its measures."""
    labels = folder.read_labels()
    labels = labels.loc[labels["rank"].to_numpy() == 1]
    wanted = np.array([bool(text.strip()) for text in labels["label"]], dtype=bool)
    if scope == "clean":
        wanted &= (labels["perturbation"].to_numpy() == CLEAN.name) & (labels["repeat"].to_numpy() == 0)
    alive = np.zeros(len(labels), dtype=bool)
    for work in works:
        marker = folder.marker(work.observation_key(CLEAN), "evidence")
        if marker is not None:
            units = np.setdiff1d(work.units, marker.extra.get("dead", []))
            mine = (labels["task"] == work.task.name) & (labels["profile"] == work.profile)
            alive |= mine.to_numpy() & np.isin(labels["unit"].to_numpy(), units)
    return labels.loc[wanted & alive, [*_KEY, "label"]].reset_index(drop=True)


def _claims(folder: RunFolder, rows: pd.DataFrame) -> list[Claim]:
    """What each label says: its text, or the weighted sum that its method noted beside it."""
    noted: dict[CellKey, Mapping[str, Any]] = {}
    found = []
    for *place, unit, text in rows.itertuples(index=False, name=None):
        key = CellKey(*place)
        if key not in noted:
            marker = folder.marker(key)
            noted[key] = marker.extra.get("units", {}) if marker else {}
        found.append(Claim.of(text, noted[key].get(str(unit), {})))
    return found


def _without_cosy(works: Sequence[Work], roles: Roles) -> str:
    """Why no images are generated, as a sentence; empty if they are."""
    if roles.profile.generator is None:
        return f"The profile {roles.profile.name} has no image generator."
    if roles.profile.knows_only_scenes and any(work.task.probing_set == OWN_IMAGES for work in works):
        return (
            f"The generator of the profile {roles.profile.name} draws rendered scenes only, and the images are others."
        )
    return ""


def _facts(works: Sequence[Work], roles: Roles, seed: int, scope: Scope, count: int) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "scope": scope,
        "seed": seed,
        "images_per_label": count,
        "prompt": PROMPT,
        "clip_bar": CLIP_BAR,
        "without_cosy": _without_cosy(works, roles),
    }


def _stored(folder: RunFolder, key: str) -> pd.DataFrame | None:
    if folder.info()["facts"].get("faithfulness", {}).get("key") != key:
        return None
    try:
        return folder.read_table("faithfulness")
    except StoreError:
        # Lost or damaged: it is computed again.
        return None


def _measured(
    rows: pd.DataFrame,
    claims: Sequence[Claim],
    works: Sequence[Work],
    roles: Roles,
    seed: int,
    count: int,
    display: Display,
    drawn: BlobStore | None,
) -> pd.DataFrame:
    if rows.empty:
        return empty_frame(FAITHFULNESS)
    images = _images(rows, count)
    parts = []
    with display.stage("faithfulness", len(images), "labels") as stage:
        groups = list(_groups(rows, works, roles, seed))
        for some in blocks(len(images), _LABELS_AT_ONCE):
            asked = images[some.start : some.stop]
            seen = {} if _without_cosy(works, roles) else _seen(asked, works, roles, seed, drawn)
            parts += [part for group in groups for part in group.measure([one.label for one in asked], seen)]
            stage.advance(len(asked))
    rows = pd.concat([rows, _simulated(rows, claims, groups)], axis=1)
    return rows.merge(pd.concat(parts, ignore_index=True), on=["task", "unit", "label"], validate="many_to_one")


def _seen(
    asked: Sequence[LabelImages], works: Sequence[Work], roles: Roles, seed: int, drawn: BlobStore | None
) -> dict[tuple[str, str], Float[np.ndarray, "count units"]]:
    """Label and task name → activations of the task's units on the images generated of the label."""
    stored = {one: None if drawn is None else drawn.get(one.facts()) for one in asked}
    found = {one: {task: part.numpy() for task, part in blob.items()} for one, blob in stored.items() if blob}
    if lacking := [one for one in asked if one not in found]:
        found |= draw(lacking, works, roles, seed)
    return {(one.label, task): values for one, own in found.items() for task, values in own.items()}


def _simulated(rows: pd.DataFrame, claims: Sequence[Claim], groups: Sequence[_Group]) -> pd.DataFrame:
    """How well each row's label predicts its unit: labels of one text may be different sums."""
    of_task = {work.task.name: group for group in groups for work in group.works}
    found: dict[tuple[str, int, Claim], dict[str, float]] = {}
    asked = list(zip(rows["task"], rows["unit"], claims, strict=True))
    for task, unit, claim in asked:
        if (task, unit, claim) not in found:
            found[task, unit, claim] = of_task[task].simulated(task, unit, claim)
    return pd.DataFrame([found[one] for one in asked], index=rows.index)


def _groups(rows: pd.DataFrame, works: Sequence[Work], roles: Roles, seed: int) -> Iterator[_Group]:
    """Tasks that share network, pooling and images read each image once."""
    grouped: dict[tuple[str, str, str, int], list[Work]] = {}
    for work in works:
        source = (work.task.model, work.task.pooling, work.task.probing_set, work.images)
        grouped.setdefault(source, []).append(work)
    places: dict[str, tuple[Presence, Simulation]] = {}
    for (model, _, name, images), group in grouped.items():
        carriers = {work.task.name: _carriers(rows, work.task.name) for work in group}
        units = {task: sorted({unit for own in found.values() for unit in own}) for task, found in carriers.items()}
        view = roles.view(model)
        probing = roles.probing_set(name, images, view)
        if probing.digest not in places:
            presence = Presence(probing, roles)
            places[probing.digest] = presence, Simulation(probing, presence, roles, seed)
        labelled = [work for work in group if units[work.task.name]]
        parts = (probing.load(part) for part in blocks(len(probing.ids), READ_AT_ONCE))
        clean = activations(roles, labelled, parts, units)
        yield _Group(tuple(group), carriers, units, clean, *places[probing.digest])


def _carriers(rows: pd.DataFrame, task: str) -> dict[str, list[int]]:
    own = rows.loc[(rows["task"] == task).to_numpy()]
    return {str(text): sorted(part["unit"].unique().tolist()) for text, part in own.groupby("label")}


@dataclass(frozen=True)
class _Group:
    """Tasks that share network, pooling and images.

    Attributes:
        carriers: Task name → label → the units with that label.
        units: Task name → all its labelled units.
        clean: Task name → activations of these units, in this order, on the clean probing images.
        presence: Presence of labels in these images.
        simulation: Predictions of activations on a part of these images.
    """

    works: tuple[Work, ...]
    carriers: Mapping[str, Mapping[str, Sequence[int]]]
    units: Mapping[str, Sequence[int]]
    clean: Mapping[str, Float[np.ndarray, "images units"]]
    presence: Presence
    simulation: Simulation

    def simulated(self, task: str, unit: int, claim: Claim) -> dict[str, float]:
        """How well a label predicts a unit's activations, see ``Simulation.correlations``."""
        column = int(np.searchsorted(self.units[task], unit))
        return self.simulation.correlations(self.clean[task][:, column], claim)

    def measure(
        self, labels: Sequence[str], seen: Mapping[tuple[str, str], Float[np.ndarray, "count units"]]
    ) -> Iterator[pd.DataFrame]:
        """The measures of labels for each unit with one of them, label by label and task by task.

        Args:
            seen: Label and task name → activations of all of the task's units on the images generated of the label;
                empty if none are.
        """
        for text in labels:
            carriers = [(work, own) for work in self.works if (own := self.carriers[work.task.name].get(text))]
            if not carriers:
                continue
            shown, how = self.presence.of(text)
            for work, own in carriers:
                task = work.task.name
                clean = self.clean[task][:, np.searchsorted(self.units[task], own)]
                synthetic = seen[text, task][:, np.searchsorted(work.units, own)] if seen else None
                yield pd.DataFrame(
                    {
                        "task": task,
                        "unit": own,
                        "label": text,
                        "presence": how,
                        **_cosy(clean, synthetic),
                        **_against_presence(clean, shown),
                    }
                )


def _cosy(
    clean: Float[np.ndarray, "images units"], synthetic: Float[np.ndarray, "count units"] | None
) -> dict[str, np.ndarray]:
    if synthetic is None:
        return dict.fromkeys(_DRAWN, np.full(clean.shape[1], np.nan))
    # Contiguous rows: otherwise the order of a sum, and so its last digit, would depend on the neighbouring units.
    control, drawn = np.ascontiguousarray(clean.T), np.ascontiguousarray(synthetic.T)
    return {name: measure(control, drawn) for name, measure in _DRAWN.items()}


def _against_presence(
    clean: Float[np.ndarray, "images units"], shown: Bool[np.ndarray, " images"]
) -> dict[str, np.ndarray]:
    presence = shown[:, None].astype(np.float64)
    # One unit at a time, for the same reason as in CoSy.
    found = [faithfulness(np.ascontiguousarray(unit)[:, None], presence) for unit in clean.T]
    measures = {name: np.array([getattr(unit, name)[0, 0] for unit in found]) for name in Faithfulness._fields}
    # A label that no image shows (or that all show) says nothing about the unit; if it were excluded instead, a method
    # with such labels would be judged only by its other labels.
    varied = ~np.isnan(measures["f1"])
    if shown.all() or not shown.any():
        measures["correlation"][varied] = 0.0
    if not shown.any():
        measures["cosine"][varied] = 0.0
    return measures
