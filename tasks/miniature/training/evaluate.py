"""How good the miniature's models are, on scenes not used in training; the bars are those a user may rely on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from tasks.common.images import to_tensor
from tasks.common.seeding import generator as seeded
from tasks.miniature.captions import full_caption
from tasks.miniature.render import Rendering, render
from tasks.miniature.scene import Scene, Wish, draw_scene, scene_at
from tasks.miniature.training.data import grid_of, kept_layers
from tasks.miniature.training.planted_truth import measure
from tasks.miniature.vocabulary import BACKGROUNDS, CATEGORIES, COLOURS, CONCEPTS, HELD_OUT, KINDS, PATTERNS, SIDE
from tasks.models.counting_summariser import caption_background
from tasks.profiles.build import Roles
from tasks.roles import ImageTextEncoder
from tasks.view import View

VIEW: Final = View(SIDE)
"""The view of all networks of the miniature."""


@dataclass(frozen=True)
class Quality:
    """One measured figure and the bar it must reach."""

    role: str
    figure: str
    value: float
    bar: float | None
    images: int

    @property
    def reached(self) -> bool:
        """Whether the bar is reached; always true for figures without a bar."""
        return self.bar is None or self.value >= self.bar


@dataclass(frozen=True)
class TestScenes:
    """Scenes of the test split with their renderings."""

    scenes: list[Scene]
    drawn: list[Rendering]

    @property
    def images(self) -> UInt8[Tensor, "n 3 side side"]:
        """The images at the networks' input size."""
        return VIEW(to_tensor(np.stack([item.image for item in self.drawn])))

    def where(self, keep: Callable[[Scene], bool]) -> TestScenes:
        """The scenes that satisfy a condition."""
        chosen = [number for number, scene in enumerate(self.scenes) if keep(scene)]
        return TestScenes([self.scenes[n] for n in chosen], [self.drawn[n] for n in chosen])


def test_scenes(count: int) -> TestScenes:
    """The first ``count`` scenes of the test split."""
    scenes = [scene_at("test", number) for number in range(count)]
    return TestScenes(scenes, [render(scene) for scene in scenes])


def evaluate(roles: Roles, count: int = 2000) -> list[Quality]:
    """Measure every role of the miniature profile on the test split."""
    everything = test_scenes(count)
    single = everything.where(lambda scene: len(scene.things) == 1)
    figures = []
    for name, target in roles.profile.targets.items():
        # Not one of the others with a formula, with latents, or with units that are written along directions.
        if target.weights is None or target.readout or (target.planted and not roles.planted(name)):
            continue
        figures += (evaluate_planted if target.planted else evaluate_target)(roles, name, everything)
    figures += evaluate_clip(roles, single)
    figures += evaluate_captioner(roles, single)
    figures += evaluate_segmenter(roles, everything)
    figures += evaluate_summariser(roles)
    figures += evaluate_generator(roles)
    return figures


def evaluate_target(roles: Roles, name: str, data: TestScenes) -> list[Quality]:
    """Mean AUROC over concepts, and by category; also over scenes with a combination held out of training."""
    last = "head" if roles.profile.target(name).loader == "timm" else "fc"
    logits = roles.target(name).read(data.images, {last: "mean"})[last].pooled.double().numpy()
    truth = np.array([[concept in scene.concepts for concept in CONCEPTS] for scene in data.scenes])
    scores = dict(zip(CONCEPTS, _aurocs(logits, truth), strict=True))
    figures = [Quality(name, "mean AUROC over concepts", float(np.mean(list(scores.values()))), 0.98, len(truth))]
    for category, names in CATEGORIES.items():
        figures.append(
            Quality(name, f"mean AUROC, {category}", float(np.mean([scores[n] for n in names])), None, len(truth))
        )
    unseen = np.array([_holds_unseen(scene) for scene in data.scenes])
    kinds = [CONCEPTS.index(kind) for kind in KINDS]
    top = np.array(KINDS)[logits[:, kinds].argmax(1)]
    right = [kind in {thing.kind for thing in scene.things} for kind, scene in zip(top, data.scenes, strict=True)]
    figures.append(
        Quality(
            name,
            "top kind right, held-out combinations",
            float(np.mean(np.array(right)[unseen])),
            None,
            int(unseen.sum()),
        )
    )
    return figures


def evaluate_planted(roles: Roles, name: str, data: TestScenes) -> list[Quality]:
    """How well planted units detect their concepts; see ``PlantedUnit`` for the figures."""
    truths = roles.planted(name)
    maps = roles.target(name).read(data.images, {"layer4": "mean"}, maps=["layer4"])["layer4"].maps
    if maps is None:
        raise RuntimeError("layer4 has no maps")
    grid = cell_centres(data.drawn)
    found = [measure(told.op, told.concepts, maps[:, unit].float(), data.scenes, grid) for unit, told in truths.items()]
    count = len(data.scenes)
    return [
        Quality("planted", "units", len(found), 100, count),
        Quality("planted", "mean AUROC", float(np.mean([unit.auroc for unit in found])), 0.95, count),
        Quality("planted", "mean strict AUROC", float(np.mean([unit.strict_auroc for unit in found])), 0.95, count),
        Quality("planted", "mean IoU on cells", float(np.mean([unit.cell_iou for unit in found])), 0.5, count),
        Quality("planted", "mean IoU on pixels", float(np.mean([unit.iou for unit in found])), None, count),
    ]


def cell_centres(drawn: Sequence[Rendering]) -> np.ndarray:
    """uint8 [n, 4, cells, cells]: kind, part, colour, pattern numbers as the planted units are fitted to."""
    return np.stack([grid_of(kept_layers(item)) for item in drawn])


def evaluate_clip(roles: Roles, single: TestScenes) -> list[Quality]:
    """Zero-shot accuracy on single-object scenes, with one prompt per name."""
    return [
        Quality("clip", f"zero-shot {title}", accuracy, 0.9, len(single.scenes))
        for title, accuracy in zero_shot(roles.clip, single.images, single.scenes).items()
    ]


def zero_shot(clip: ImageTextEncoder, images: UInt8[Tensor, "n 3 h w"], scenes: Sequence[Scene]) -> dict[str, float]:
    """Zero-shot accuracy by attribute."""
    embedded = clip.encode_images(images)
    tests: dict[str, tuple[Sequence[str], Callable[[str], str], Callable[[Scene], str]]] = {
        "kind": (KINDS, lambda name: f"a {name}", lambda scene: scene.things[0].kind),
        "colour": (tuple(COLOURS), lambda name: f"a {name} thing", lambda scene: scene.things[0].colour),
        "pattern": (PATTERNS, lambda name: f"a {name} thing", lambda scene: scene.things[0].pattern),
        "background": (BACKGROUNDS, lambda name: name, lambda scene: scene.background),
    }
    accuracies = {}
    for title, (names, prompt, truth) in tests.items():
        texts = clip.encode_text([prompt(name) for name in names])
        chosen = (embedded @ texts.T).argmax(1).tolist()
        accuracies[title] = float(np.mean([names[c] == truth(s) for c, s in zip(chosen, scenes, strict=True)]))
    return accuracies


def evaluate_captioner(roles: Roles, single: TestScenes) -> list[Quality]:
    """Share of captions of single-object scenes that name everything right."""
    if roles.captioner is None:
        return []
    captions = roles.captioner.caption(single.images)
    wanted = [full_caption(scene) for scene in single.scenes]
    exact = [said.split() == true.split() for said, true in zip(captions, wanted, strict=True)]
    figures = [Quality("captioner", "all four attributes right", float(np.mean(exact)), 0.9, len(captions))]
    for title, pick in (
        ("kind", lambda scene: scene.things[0].kind),
        ("colour", lambda scene: scene.things[0].colour),
        ("pattern", lambda scene: scene.things[0].pattern),
        ("background", lambda scene: scene.background),
    ):
        named = [set(pick(s).split()) <= set(c.split()) for c, s in zip(captions, single.scenes, strict=True)]
        figures.append(Quality("captioner", f"{title} named", float(np.mean(named)), None, len(captions)))
    return figures


def evaluate_segmenter(roles: Roles, data: TestScenes) -> list[Quality]:
    """Mean intersection over union of the foreground masks."""
    if roles.segmenter is None:
        return []
    part = TestScenes(data.scenes[:500], data.drawn[:500])
    found = roles.segmenter.foreground(part.images).numpy()
    true = np.stack([VIEW.mask(item.foreground) for item in part.drawn])
    ious = (found & true).sum((1, 2)) / (found | true).sum((1, 2))
    return [Quality("segmenter", "mean foreground IoU", float(ious.mean()), 0.9, len(ious))]


def evaluate_summariser(roles: Roles, cases: int = 200) -> list[Quality]:
    """Share of cases where ten captions, eight of them sharing a concept, are summarised to that concept."""
    summariser = roles.summariser
    if summariser is None:
        return []
    background = caption_background([full_caption(scene_at("probe", number)) for number in range(1000)])
    right = []
    for case in range(cases):
        draw = seeded(0, "evaluate", "summariser", case)
        concept, fixed = _shared_concept(draw)
        scenes = [draw_scene(draw, **fixed) for _ in range(8)] + [draw_scene(draw) for _ in range(2)]
        captions = [full_caption(scenes[place]) for place in draw.permutation(10)]
        said = summariser.summarise([summariser.simplify(c, case) for c in captions], case, background)
        right.append(set(concept.split()) <= set(said.split()))
    return [Quality("summariser", "names the shared concept", float(np.mean(right)), 0.9, cases)]


def evaluate_generator(roles: Roles, cases: int = 40) -> list[Quality]:
    """Share of images of a fully described object in which CLIP recognises each requested attribute."""
    generator = roles.generator_for(VIEW)
    if generator is None:
        return []
    images, scenes = [], []
    for case in range(cases):
        scene = draw_scene(seeded(0, "evaluate", "generator", case), wishes=[Wish()])
        images.append(generator.generate(full_caption(scene), 5, case))
        scenes += [scene] * 5
    return [
        Quality("generator", f"CLIP reads the asked {title}", accuracy, 0.9, len(scenes))
        for title, accuracy in zero_shot(roles.clip, torch.cat(images), scenes).items()
    ]


def _shared_concept(draw: np.random.Generator) -> tuple[str, dict]:
    kind, colour, pattern = (str(draw.choice(list(names))) for names in (KINDS, COLOURS, PATTERNS))
    background = str(draw.choice(BACKGROUNDS))
    options: list[tuple[str, dict]] = [
        (kind, {"wishes": [Wish(kind)]}),
        (colour, {"wishes": [Wish(colour=colour)]}),
        (pattern, {"wishes": [Wish(pattern=pattern)]}),
        (background, {"background": background}),
        (f"{colour} {kind}", {"wishes": [Wish(kind, colour)]}),
        (f"{colour} {pattern} {kind}", {"wishes": [Wish(kind, colour, pattern)]}),
    ]
    return options[int(draw.integers(len(options)))]


def _aurocs(scores: np.ndarray, truth: np.ndarray) -> list[float]:
    from scipy.stats import rankdata

    ranks = rankdata(scores, axis=0)
    positives = truth.sum(0)
    wins = (ranks * truth).sum(0) - positives * (positives + 1) / 2
    return (wins / (positives * (len(truth) - positives))).tolist()


def _holds_unseen(scene: Scene) -> bool:
    return any({(t.colour, t.kind), (t.pattern, t.kind)} & set(HELD_OUT) for t in scene.things)
