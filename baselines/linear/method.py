"""Linear Explanations as a labelling method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from baselines.base import Label, Mode, UnitLabels
from baselines.costs import pass_alone
from baselines.evidence import EVIDENCE_SIZE, check_units, dead_units, order_among_ties, top_images
from baselines.linear.explanation import Explanation, Prepared, explain
from baselines.linear.probability import probability
from tasks.common.errors import UserError, unknown_name
from tasks.common.seeding import integer_seed
from tasks.observation import Observation, Toolbox

Source = Literal["annotation", "clip"]

_TRAIN, _VALIDATION = 0.7, 0.1
_RANKED = 5
_LARGEST, _PRESENT = 5, 0.5
_AT_ONCE = 256


class LinearExplanation:
    """Explains a unit by a weighted sum of at most ten concepts, and names it by those of positive weight.

    The label joins them, largest weight first; the further labels are single concepts. ``extra`` holds the whole sum
    with its correlation: ``correlation`` with the activations by which the concepts were chosen, and
    ``test_correlation`` on a fifth of the images, which nothing was chosen or fitted on. The split is drawn from the
    images' identifiers and the run's seed: the same for every unit and under every condition. Annotation is that of
    the unperturbed images under every condition but the background swap.

    Args:
        concepts: ``annotation``: which of the annotated concepts an image shows. ``clip``: the probability that it
            shows a concept of the concept set, by the profile's CLIP model.
        scale: Of the cosine in that probability, 1 / (1 + exp(-scale · (cosine + shift))). Both belong to the CLIP
            model: a profile sets them under ``method_options``. The default is the authors' for CLIP ViT-L/14-336.
        shift: See ``scale``.
        max_length: Maximum number of concepts.
        tolerance: Least gain in correlation for which a concept is added.
        width: Number of candidates tried at each step.
        penalty: Weight of the absolute values in the sparse fit that puts the candidates in order.
        mode: ``fixed`` or ``code``, see ``explain``.
    """

    name: ClassVar[str] = "linear"
    summary: ClassVar[str] = (
        "Linear Explanations: a weighted sum of at most ten concepts that predicts the unit's activation; the label "
        "names those of positive weight."
    )
    citation: ClassVar[tuple[str, ...]] = ("linearexplanations",)
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[str]] = frozenset({"presence"})

    def __init__(
        self,
        concepts: Source = "annotation",
        scale: float = 58.0,
        shift: float = -0.25,
        max_length: int = 10,
        tolerance: float = 0.02,
        width: int = 10,
        penalty: float = 0.05,
        mode: Mode = "fixed",
    ) -> None:
        if concepts not in get_args(Source):
            raise unknown_name("source of concepts", concepts, get_args(Source))
        if mode not in get_args(Mode):
            raise unknown_name("mode", mode, get_args(Mode))
        for option, value in (("max_length", max_length), ("width", width)):
            if value < 1:
                raise UserError(f"The option {option} of linear must be at least 1, not {value}.")
        if not (scale > 0 and penalty > 0 and tolerance >= 0):
            raise UserError("The options scale and penalty of linear must be positive, and tolerance at least 0.")
        self.concepts: Source = concepts
        self.asks = self.needs if concepts == "annotation" else frozenset({"clip", "concepts"})
        self.scale, self.shift = scale, shift
        self._options = {"max_length": max_length, "tolerance": tolerance, "width": width, "penalty": penalty}
        self.mode: Mode = mode

    cost = pass_alone

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """Explain the requested units, each for itself.

        Returns:
            Up to five labels of each unit with their weight as score, of the first label the largest; none for a dead
            unit, one that no concept predicts, or one without a concept of positive weight.

        Raises:
            UserError: No annotation, or no CLIP or concepts; or a unit number out of range.
        """
        check_units(units, observation.activations.shape[1])
        names, shown = self._shown(observation, tools)
        train, validation, test = split(observation.image_ids, tools.seed)
        given = Prepared(shown, train, self.mode)
        dead, ties = dead_units(observation.activations), order_among_ties(observation.activations)
        found = []
        for unit in units:
            if dead[unit]:
                found.append(UnitLabels(unit=unit, ranked=(), extra={"dead": True}))
                continue
            activations = observation.activations[:, unit].detach().cpu().double().numpy()
            explanation = explain(
                activations,
                given,
                train=train,
                validation=validation,
                mode=self.mode,
                seed=tools.seed,
                **self._options,  # type: ignore[arg-type]
            )
            ranked = _ranked(explanation, names)
            found.append(
                UnitLabels(
                    unit=unit,
                    ranked=ranked,
                    evidence=tuple(top_images(activations, EVIDENCE_SIZE, among_ties=ties)) if ranked else (),
                    extra={
                        "concepts": self.concepts,
                        "mode": self.mode,
                        **_facts(explanation, names, activations[test], shown[test]),
                    },
                )
            )
        return found

    def _shown(
        self, observation: Observation, tools: Toolbox
    ) -> tuple[tuple[str, ...], Float[np.ndarray, "images concepts"]]:
        """How much each image shows each concept, 0 to 1."""
        if self.concepts == "annotation":
            if observation.presence is None:
                raise UserError(
                    "The method linear needs images with concept annotation, which these do not have: "
                    "use --set linear.concepts=clip."
                )
            return observation.presence.concepts, observation.presence.shown
        clip, concepts = tools.clip, tools.concepts
        if clip is None or not concepts:
            missing = "a CLIP model (clip)" if clip is None else "a concept set (concepts)"
            raise UserError(f"The method linear needs {missing}, which the profile does not have.")
        texts = tools.remembered(
            LinearExplanation, lambda: torch.nn.functional.normalize(clip.encode_text(concepts).detach().cpu(), dim=1)
        )
        images = torch.nn.functional.normalize(observation.clip_embeddings.detach().cpu(), dim=1)
        return _probable(images, texts, concepts, self.scale, self.shift)


def split(ids: Sequence[str], seed: int) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"], Int[np.ndarray, " c"]]:
    """Numbers of the images to fit to (70 %), to choose by (10 %) and to test with, ascending.

    Args:
        ids: The images' identifiers, on whose order the split does not depend.
    """
    drawn = np.array([integer_seed(seed, "linear", "split", one) for one in ids])
    order = np.lexsort((np.array(ids), drawn))
    ends = round(_TRAIN * len(ids)), round((_TRAIN + _VALIDATION) * len(ids))
    first, second, third = (np.sort(part) for part in np.split(order, ends))
    return first, second, third


def _probable(
    images: Float[Tensor, "images d"],
    texts: Float[Tensor, "concepts d"],
    names: tuple[str, ...],
    scale: float,
    shift: float,
) -> tuple[tuple[str, ...], Float[np.ndarray, "images kept"]]:
    """Probabilities of the concepts that some images show, block by block: others explain nothing."""
    kept, blocks = [], []
    for start in range(0, len(texts), _AT_ONCE):
        found = probability((images @ texts[start : start + _AT_ONCE].T).numpy(), scale, shift).astype(np.float32)
        few = min(_LARGEST, len(found))
        shown = np.partition(found, len(found) - few, axis=0)[-few:].mean(axis=0) >= _PRESENT
        kept += [names[start + place] for place in np.flatnonzero(shown)]
        blocks.append(found[:, shown])
    return tuple(kept), np.concatenate(blocks, axis=1)


def _ranked(explanation: Explanation | None, names: tuple[str, ...]) -> tuple[Label, ...]:
    if explanation is None:
        return ()
    pairs = zip(explanation.concepts, explanation.weights, strict=True)
    positive = [Label(names[concept], weight) for concept, weight in pairs if weight > 0]
    if len(positive) < 2:
        return tuple(positive)
    joined = Label(" ".join(label.text for label in positive), positive[0].score)
    return (joined, *positive[: _RANKED - 1])


def _facts(
    explanation: Explanation | None,
    names: tuple[str, ...],
    activations: Float[np.ndarray, " test"],
    shown: Float[np.ndarray, "test concepts"],
) -> dict[str, Any]:
    if explanation is None:
        return {"sum": None}
    pairs = zip(explanation.concepts, explanation.weights, strict=True)
    simulated = explanation.simulate(shown)
    varies = len(activations) > 1 and simulated.std() > 0 and activations.std() > 0
    return {
        "sum": [[names[concept], weight] for concept, weight in pairs],
        "bias": explanation.bias,
        "correlation": explanation.correlation,
        "test_correlation": float(np.corrcoef(simulated, activations)[0, 1]) if varies else None,
    }
