"""Labelled images for a concept bottleneck: scenes of the miniature with one object, or a probing set with classes.

All are prepared as the bottleneck's network sees them, see ``tasks.view``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count as numbers
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from tasks.common.errors import UserError, unknown_name
from tasks.common.images import to_tensor
from tasks.common.seeding import generator
from tasks.miniature.render import Rendering, render
from tasks.miniature.scene import Scene, scene_at
from tasks.miniature.vocabulary import BACKGROUNDS, KINDS
from tasks.probing.base import StoredSet
from tasks.profiles.build import Roles
from tasks.profiles.schema import MiniatureSource
from tasks.schema import Bottleneck
from tasks.view import View

_RENDERED_FOR_DIGEST: Final = 8
_THREADS: Final = 2


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with one class each; loaded on demand.

    Attributes:
        classes: The set's name of each image's class.
        contexts: Each image's background; empty if unknown.
        digest: SHA-256 of the content; for scenes, of all scene graphs and the pixels of a few images.
        load: Loads some of the images and their foreground masks, None if the set has none.
        moved: Renders the same objects on these backgrounds, one per image; None if that is impossible.
    """

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    contexts: tuple[str, ...]
    digest: str
    load: Callable[[Sequence[int]], tuple[UInt8[Tensor, "k 3 h w"], Bool[Tensor, "k h w"] | None]]
    moved: Callable[[Sequence[str]], LabelledImages] | None = None

    def chosen(self, rows: Sequence[int]) -> LabelledImages:
        """Some of the images; ``moved`` is not available."""
        places = list(rows)
        return LabelledImages(
            tuple(self.ids[row] for row in places),
            tuple(self.classes[row] for row in places),
            tuple(self.contexts[row] for row in places) if self.contexts else (),
            hashlib.sha256((self.digest + repr(places)).encode()).hexdigest(),
            lambda rows: self.load([places[row] for row in rows]),
        )


@dataclass(frozen=True)
class Split:
    """The images of a task.

    Attributes:
        training: Images of known classes and contexts.
        test: Further images of the same classes and contexts.
        anomalies: Images of classes that are not in the training set; None without such classes.
        label_of: The set's name of a class → the bottleneck's label.
        unseen: Contexts that are not in the training set.
        with_context: Whether the context is part of the label.
    """

    training: LabelledImages
    test: LabelledImages
    anomalies: LabelledImages | None
    label_of: Mapping[str, str]
    unseen: tuple[str, ...]
    with_context: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels of the bottleneck."""
        groups = dict.fromkeys(self.label_of.values())
        if not self.with_context:
            return tuple(groups)
        contexts = sorted({*self.training.contexts, *self.test.contexts})
        return tuple(f"{group} on {context}" for group in groups for context in contexts)

    def numbers(self, images: LabelledImages) -> Int[np.ndarray, " images"]:
        """Each image's index in ``labels``."""
        found = [self.label_of[name] for name in images.classes]
        if self.with_context:
            found = [f"{group} on {context}" for group, context in zip(found, images.contexts, strict=True)]
        place = {name: number for number, name in enumerate(self.labels)}
        return np.array([place[name] for name in found], dtype=np.int64)

    def identity(self) -> dict[str, Any]:
        """The images' digests."""
        parts = {"training": self.training, "test": self.test, "anomalies": self.anomalies}
        return {name: part.digest for name, part in parts.items() if part is not None}


def split_of(roles: Roles, view: View, section: Bottleneck, test_set: str, test_images: int, seed: int) -> Split:
    """Select the training and test images of a bottleneck.

    Args:
        view: How the task's network crops and resizes an image.
        test_set: Name of the probing set of the tests.
        test_images: Number of test images; half as many anomalies.
        seed: Seed of the sample if a set on disk has more images.

    Raises:
        UserError: Unknown classes or contexts, too few images, a set without classes.
    """
    known = _classes(roles, view, section.training_set)
    for name in (*section.held_out, *(name for members in section.groups.values() for name in members)):
        if name not in known:
            raise unknown_name("class", name, known)
    label_of = {name: group for group, members in section.groups.items() for name in members}
    label_of = label_of or {name: name for name in known}
    label_of = {name: group for name, group in label_of.items() if name not in section.held_out}
    if len(set(label_of.values())) < 2:
        raise UserError("A bottleneck needs at least two classes: correct groups and held_out in the task's file.")

    def take(name: str, classes: Collection[str], count: int) -> LabelledImages:
        return _taken(roles, view, name, classes, count, section.held_out_contexts, seed)

    anomalies = None
    if section.held_out:
        anomalies = take(test_set, section.held_out, max(2, test_images // 2))
    training = take(section.training_set, label_of, section.training_images)
    if section.labels == "class_and_context" and not training.contexts:
        raise UserError(
            f"The backgrounds of {section.training_set} are unknown: let the bottleneck decide only the class."
        )
    return Split(
        training,
        take(test_set, label_of, test_images),
        anomalies,
        label_of,
        section.held_out_contexts,
        section.labels == "class_and_context",
    )


def _classes(roles: Roles, view: View, name: str) -> tuple[str, ...]:
    if isinstance(roles.profile.probing_set(name), MiniatureSource):
        return KINDS
    return _stored(roles, view, name)[1]


def _stored(roles: Roles, view: View, name: str) -> tuple[StoredSet, tuple[str, ...], tuple[str, ...]]:
    """The set, the names of its classes, and each image's class."""
    found = roles.probing_set(name, None, view)
    if found.classes is None or found.class_names is None:
        raise UserError(
            f"The images of {name} have no classes to train a concept bottleneck on: choose a set with classes, such "
            "as a folder with one subfolder per class, or cifar."
        )
    return found, found.class_names, tuple(found.class_names[number] for number in found.classes)


def _taken(
    roles: Roles, view: View, name: str, classes: Collection[str], count: int, unseen: Collection[str], seed: int
) -> LabelledImages:
    source = roles.profile.probing_set(name)
    if isinstance(source, MiniatureSource):
        for context in unseen:
            if context not in BACKGROUNDS:
                raise unknown_name("context", context, BACKGROUNDS)
        backgrounds = [name for name in BACKGROUNDS if name not in unseen]
        return single_objects(source.split, count, classes, backgrounds, view)
    if unseen:
        raise UserError(f"The backgrounds of {name} are unknown: remove held_out_contexts from the task.")
    return _of_stored(roles, view, name, classes, count, seed)


def single_objects(
    split: str, count: int, kinds: Collection[str], backgrounds: Collection[str], view: View
) -> LabelledImages:
    """The first scenes of a split with one object, of given kinds, on given backgrounds, as a network sees them.

    Raises:
        UserError: No kind or no background is left.
    """
    if not kinds or not backgrounds:
        raise UserError("All kinds or all backgrounds of the miniature are held out; leave some for the training.")
    ids, scenes = [], []
    for number in numbers():
        if len(scenes) == count:
            break
        scene = scene_at(split, number)
        if len(scene.things) == 1 and scene.things[0].kind in kinds and scene.background in backgrounds:
            ids.append(f"{split}-{number:06d}")
            scenes.append(scene)
    return _of_scenes(tuple(ids), scenes, view)


def _of_scenes(ids: tuple[str, ...], scenes: Sequence[Scene], view: View) -> LabelledImages:
    def moved(backgrounds: Sequence[str]) -> LabelledImages:
        other = [replace(s, background=name) for s, name in zip(scenes, backgrounds, strict=True)]
        return _of_scenes(ids, other, view)

    digest = hashlib.sha256(repr((view, scenes)).encode())
    for drawn in _drawn(scenes[:_RENDERED_FOR_DIGEST]):
        digest.update(drawn.image.tobytes() + drawn.foreground.tobytes())

    def load(rows: Sequence[int]) -> tuple[UInt8[Tensor, "k 3 h w"], Bool[Tensor, "k h w"]]:
        found = _drawn([scenes[row] for row in rows])
        images = view(to_tensor(np.stack([drawn.image for drawn in found]))).contiguous()
        return images, torch.from_numpy(np.stack([view.mask(drawn.foreground) for drawn in found]))

    kinds = tuple(scene.things[0].kind for scene in scenes)
    return LabelledImages(ids, kinds, tuple(scene.background for scene in scenes), digest.hexdigest(), load, moved)


def _drawn(scenes: Sequence[Scene]) -> list[Rendering]:
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(render, scenes))


def _of_stored(roles: Roles, view: View, name: str, classes: Collection[str], count: int, seed: int) -> LabelledImages:
    found, _, own = _stored(roles, view, name)
    rows = [row for row, label in enumerate(own) if label in classes]
    if len(rows) < count:
        raise UserError(f"{name} has {len(rows)} images of {', '.join(sorted(classes))}; {count} are requested.")
    if len(rows) > count:
        drawn = generator(seed, "bottleneck", name, *sorted(classes)).permutation(len(rows))[:count]
        rows = [rows[int(place)] for place in np.sort(drawn)]
    whole = LabelledImages(
        found.ids, own, (), found.digest, lambda places: (found.load(places), found.load_foreground(places))
    )
    return whole.chosen(rows)
