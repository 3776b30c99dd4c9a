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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from benchmark.core.display import Display
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
from tasks.activations.capture import Pooling
from tasks.activations.spool import blocks
from tasks.common.seeding import integer_seed
from tasks.observe import CLEAN
from tasks.profiles.build import Roles
from tasks.view import View

Scope = Literal["none", "clean", "all"]
"""Which labels are measured: none, those of clean repeat 0, or those of all conditions and repeats."""

IMAGES_PER_LABEL: Final = 10
"""CoSy generates 50. Ten take a fifth of the time and lose little: the mean AUC of 48 units with different labels has a
standard error of about 0.013."""

PROMPT: Final = "realistic photo of a close up of {concept}"
"""The template of CoSy's released settings, for generators with text prompts."""

_VERSION: Final = 3
_READ_AT_ONCE: Final = 128
_LABELS_AT_ONCE: Final = 8
"""Labels whose images are read together: the ten of one label would leave much of a batch of whole sixteens empty."""

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
) -> pd.DataFrame:
    """Measure a run's rank-1 labels and store the table; results stored for the same labels are reused.

    Dead units and missing labels have no row. Images are generated and searched once per distinct label, whichever
    units and methods share it; only the activations of the labelled units on the clean images are kept in memory.

    Args:
        scope: Which labels, see ``Scope``.
        count: Number of images generated per label.

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
        sums = [[place, *claim[1:]] for place, claim in enumerate(claims) if claim.terms]
        key = identity_hash(facts | {"labels": as_json(rows.to_numpy().tolist()), "sums": as_json(sums)})
        stored = _stored(folder, key)
        if stored is not None:
            return stored
        # If stopped between the two, the table must not be mistaken for the previous one.
        folder.record("faithfulness", {"key": ""})
        folder.write_table("faithfulness", _measured(rows, claims, works, roles, seed, count, display))
        folder.record("faithfulness", facts | {"key": key, "texts": len(set(rows["label"]))})
        return folder.read_table("faithfulness")


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
    if roles.generator is None:
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
) -> pd.DataFrame:
    if rows.empty:
        return empty_frame(FAITHFULNESS)
    texts = sorted(rows["label"].unique())
    parts = []
    with display.stage("faithfulness", len(texts), "labels") as stage:
        groups = list(_groups(rows, works, roles, seed))
        for some in blocks(len(texts), _LABELS_AT_ONCE):
            drawn: dict[str, UInt8[Tensor, "count 3 h w"] | None] = dict.fromkeys(texts[some.start : some.stop])
            if roles.generator is not None and not _without_cosy(works, roles):
                for text in drawn:
                    # Each group takes its network's view of them.
                    drawn[text] = roles.generator.generate(
                        text, count, integer_seed(seed, "faithfulness", text), PROMPT
                    )
            parts += [part for group in groups for part in group.measure(drawn, roles)]
            stage.advance(len(drawn))
    rows = pd.concat([rows, _simulated(rows, claims, groups)], axis=1)
    return rows.merge(pd.concat(parts, ignore_index=True), on=["task", "unit", "label"], validate="many_to_one")


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
        parts = (probing.load(part) for part in blocks(len(probing.ids), _READ_AT_ONCE))
        clean = _activations(roles, labelled, parts, units)
        yield _Group(tuple(group), carriers, units, clean, *places[probing.digest], view)


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
        view: The network's view.
    """

    works: tuple[Work, ...]
    carriers: Mapping[str, Mapping[str, Sequence[int]]]
    units: Mapping[str, Sequence[int]]
    clean: Mapping[str, Float[np.ndarray, "images units"]]
    presence: Presence
    simulation: Simulation
    view: View

    def simulated(self, task: str, unit: int, claim: Claim) -> dict[str, float]:
        """How well a label predicts a unit's activations, see ``Simulation.correlations``."""
        column = int(np.searchsorted(self.units[task], unit))
        return self.simulation.correlations(self.clean[task][:, column], claim)

    def measure(self, drawn: Mapping[str, UInt8[Tensor, "count 3 h w"] | None], roles: Roles) -> Iterator[pd.DataFrame]:
        """The measures of labels for each unit with one of them, label by label and task by task.

        Args:
            drawn: Label → the images generated of it, or None.
        """
        own = {text: images for text, images in drawn.items() if any(text in found for found in self.carriers.values())}
        seen = [self.view(images.cpu()) for images in own.values() if images is not None]
        works = [work for work in self.works if self.units[work.task.name]]
        read = _activations(roles, works, torch.cat(seen).split(_READ_AT_ONCE), self.units) if seen else {}
        for place, text in enumerate(own):
            shown, how = self.presence.of(text)
            for task, found in self.carriers.items():
                if text not in found:
                    continue
                columns = np.searchsorted(self.units[task], found[text])
                clean, count = self.clean[task][:, columns], len(read.get(task, ())) // len(own)
                synthetic = read[task][place * count :][:count, columns] if count else None
                yield pd.DataFrame(
                    {
                        "task": task,
                        "unit": found[text],
                        "label": text,
                        "presence": how,
                        **_cosy(clean, synthetic),
                        **_against_presence(clean, shown),
                    }
                )


def _activations(
    roles: Roles, works: Sequence[Work], images: Iterable[UInt8[Tensor, "k 3 h w"]], units: Mapping[str, Sequence[int]]
) -> dict[str, Float[np.ndarray, "n units"]]:
    """Task name → pooled activations of its selected units; the tasks share network and pooling."""
    if not works:
        return {}
    target = roles.target(works[0].task.model)
    layers: dict[str, Pooling] = {work.task.layer: work.task.pooling for work in works}
    parts: dict[str, list[np.ndarray]] = {work.task.name: [] for work in works}
    for part in images:
        reading = target.read(part, layers)
        for work in works:
            parts[work.task.name].append(reading[work.task.layer].pooled[:, list(units[work.task.name])].numpy())
    return {task: np.concatenate(found) for task, found in parts.items()}


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
