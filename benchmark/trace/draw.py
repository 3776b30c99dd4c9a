"""``trace``: redraws how Describe-and-Dissect or ``clear`` arrived at a label, from the run's records.

The network is not loaded: the probing set, the perturbation and the generator reproduce every image; for contexts of
``clear`` that change only a part of the image, so does the segmenter.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from PIL import Image

from baselines.contexts import Foreground
from benchmark.core.prepare import OWN_IMAGES, with_images
from benchmark.core.tiers import open_cache
from benchmark.trace.contexts import ContextTrace, draw_context_page
from benchmark.trace.find import Question, Recorded, find_trace
from benchmark.trace.images import Redrawn, without
from benchmark.trace.page import Heading, draw_page
from benchmark.trace.record import RunIdentity
from leaderboard.store import atomic
from leaderboard.store.identity import safe_name
from leaderboard.store.run_folder import RunFolder
from tasks.common.errors import UserError
from tasks.common.validation import parse
from tasks.observe import CLEAN
from tasks.perturbations.registry import PERTURBATIONS
from tasks.perturbations.settings import needs_foreground
from tasks.probing.base import ProbingSet
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile
from tasks.roles import ImageGenerator, Segmenter

__all__ = ["Question", "find_trace", "trace_page", "write_trace"]


def write_trace(run: Path, question: Question, out: Path | None = None, images: Path | None = None) -> Path:
    """Draw a trace as PNG.

    Args:
        out: Output file; ``None`` for a default name in ``traces/`` of the run folder.
        images: The folder that the run was given with ``--images``; its location is not stored.

    Returns:
        Path of the PNG file.

    Raises:
        UserError: The run has no such trace, or its images cannot be reproduced.
        StoreError: No run folder, or the file cannot be written.
    """
    if out is not None and out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: traces are PNG files, so the name must end in .png.")
    folder = RunFolder(run)
    identity = parse(RunIdentity, folder.info().get("identity"), f"the identity in {run / 'run.json'}")
    profile = load_profile(identity.profile)
    if images is not None:
        profile = with_images(profile, images)
    recorded = find_trace(folder, identity, profile.name, question)
    if recorded.task.probing_set == OWN_IMAGES and images is None:
        raise UserError(f"{run} used the user's own images: give their folder with --images FOLDER.")
    roles = Roles(profile, torch.device("cpu"), cache=open_cache())
    view = identity.content.views[recorded.key.task]
    probing = roles.probing_set(recorded.task.probing_set, identity.images or recorded.task.images, view)
    if probing.digest != identity.content.images.get(recorded.key.task):
        raise UserError(
            f"The present images of profile {profile.name} are not those of {run}, so its traces cannot be drawn "
            "again: use the version of CLEAR and the profile that it was made with, or run it again."
        )
    _check_perturbation(recorded.condition.name, identity, run)
    generator = roles.generator_for(view)
    if generator is None:
        raise UserError(f"The profile {profile.name} no longer has an image generator, so synthetic images are lost.")
    segmenter = roles.segmenter if identity.masks == "segmenter" and needs_foreground(recorded.condition.name) else None
    finds = isinstance(recorded.trace, ContextTrace) and recorded.trace.needs_foreground()
    foreground = roles.segmenter.foreground if finds else None
    page = trace_page(recorded, without(probing, recorded.left_out), generator, segmenter, foreground)
    path = out or run / "traces" / _file_name(recorded)
    data = io.BytesIO()
    page.save(data, "PNG")
    atomic.write_bytes(path, data.getvalue())
    return path


def _check_perturbation(name: str, identity: RunIdentity, run: Path) -> None:
    """Refuse a perturbation whose implementation differs from that of the run."""
    entry, made = PERTURBATIONS.get(name), identity.content.perturbations.get(name)
    if entry and made and made["version"] != entry.form(identity.corruptions).version:
        raise UserError(
            f"{name} has changed since {run} was made, so its traces cannot be drawn again: use "
            "the version of CLEAR that it was made with, or run it again."
        )


def trace_page(
    recorded: Recorded,
    probing: ProbingSet,
    generator: ImageGenerator,
    segmenter: Segmenter | None = None,
    foreground: Foreground | None = None,
) -> Image.Image:
    """Draw the page of a trace.

    Args:
        generator: Generates the synthetic images again.
        segmenter: Source of foreground masks; None for the probing set's own.
        foreground: Finds the foreground again, for probes of ``clear`` that change only a part of the image.

    Raises:
        UserError: The trace refers to images that the probing set does not have.
    """
    beyond = [image for image in recorded.trace.images() if image >= len(probing.ids)]
    if beyond:
        raise UserError(f"The trace refers to image {beyond[0]}, but the run has images 0 to {len(probing.ids) - 1}.")
    pictures = Redrawn(recorded.trace, recorded.condition, recorded.identity, probing, generator, segmenter)
    by_index = {
        i: recorded.activations[probing.ids[i]]
        for i in recorded.trace.images()
        if probing.ids[i] in recorded.activations
    }
    heading, trace = _heading(recorded, len(probing.ids)), recorded.trace
    if isinstance(trace, ContextTrace):
        return draw_context_page(heading, trace, pictures, foreground)
    return draw_page(heading, trace, pictures, by_index)


def _heading(recorded: Recorded, images: int) -> Heading:
    key, trace = recorded.key, recorded.trace
    condition = str(recorded.condition)
    facts = [
        ("task", key.task),
        ("layer", recorded.task.layer),
        ("condition", condition),
        ("label", trace.chosen or "none"),
        ("truth", recorded.truth or "unknown"),
        ("method", f"{key.method}, mode {trace.mode}"),
        ("scoring", trace.scoring),
        ("profile", key.profile),
        ("probing images", str(images)),
        ("seed, repeat", f"{recorded.identity.seed}, {key.repeat}"),
    ]
    title = f"Unit {recorded.unit}: {trace.chosen or 'no label'}"
    shown = "unperturbed" if recorded.condition == CLEAN else f"under {condition}"
    return Heading(title, facts, shown, recorded.note)


def _file_name(recorded: Recorded) -> str:
    key = recorded.key
    parts = (f"unit{recorded.unit}", key.task, key.method, key.condition, f"s{key.severity}", f"r{key.repeat}")
    return safe_name("-".join(parts), 120) + ".png"
