"""A text-to-image diffusion pipeline as the image generator, by diffusers."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from tasks.common.errors import UserError
from tasks.common.images import to_tensor
from tasks.common.seeding import integer_seed


@dataclass(frozen=True)
class Sampling:
    """Sampling options of the pipeline.

    Attributes:
        scheduler: DPM-Solver++ multistep (Lu et al., 2022), as published for Describe-and-Dissect, or the pipeline's
            own, as distilled models require.
        steps: Denoising steps.
        guidance: Weight of classifier-free guidance; up to 1 there is none.
        side: Image side in pixels; None means the pipeline's own.
    """

    scheduler: Literal["dpmsolver++", "own"] = "dpmsolver++"
    steps: int = 50
    guidance: float = 7.5
    side: int | None = None


class DiffusionGenerator:
    """Stable Diffusion (Rombach et al., CVPR 2022) and similar pipelines; the safety checker is not loaded.

    Each image has its own random generator on the CPU, seeded by (seed, concept, template, index of the image), so that
    its noise depends neither on the batch nor on the device.

    Args:
        source: A folder written by ``save_pretrained`` of the pipeline, or the name of a hub repository.
        batch_size: Images denoised per batch; a runtime setting.
        revision: Commit of the hub repository.
        variant: Variant of the weights files, e.g. ``fp16``.
        half: Whether weights are float16.

    Raises:
        UserError: The extra ``paper`` is not installed, or the pipeline does not generate from text.
    """

    def __init__(
        self,
        source: Path | str,
        device: torch.device,
        sampling: Sampling = Sampling(),
        batch_size: int = 8,
        revision: str | None = None,
        variant: str | None = None,
        half: bool = False,
    ) -> None:
        need_diffusers()
        from diffusers.pipelines.pipeline_utils import DiffusionPipeline
        from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
        from diffusers.utils.logging import disable_progress_bar

        disable_progress_bar()  # the run shows its own
        pipeline: Any = DiffusionPipeline.from_pretrained(
            source,
            revision=revision,
            variant=variant,
            dtype=torch.float16 if half else torch.float32,
            local_files_only=isinstance(source, Path),
            safety_checker=None,
        )
        if not hasattr(pipeline, "tokenizer") or not hasattr(pipeline, "scheduler"):
            raise UserError(f"{source} is a {type(pipeline).__name__}, which does not generate images from text.")
        _check_tokenizer(pipeline, source)
        if sampling.scheduler == "dpmsolver++":
            pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
                pipeline.scheduler.config, algorithm_type="dpmsolver++"
            )
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline.to(device)
        self.sampling = sampling
        self._batch_size = batch_size

    @torch.inference_mode()
    def generate(
        self, concept: str, count: int, seed: int, template: str = "{concept}", first: int = 0
    ) -> UInt8[Tensor, "count 3 h w"]:
        """Generate images; image i of (concept, seed, template) is the same whatever ``count`` is.

        Args:
            seed: At least 0.
            template: The prompt around the concept.
            first: Number of the first image.

        Raises:
            UserError: The pipeline gives pixels that are not numbers, as float16 may.
        """
        # ``replace`` and not ``format``: a label may contain braces.
        prompt = template.replace("{concept}", concept)
        parts = []
        end = first + count
        for start in range(first, end, self._batch_size):
            numbers = range(start, min(start + self._batch_size, end))
            seeds = [integer_seed(seed, "diffusion", concept, template, number) for number in numbers]
            drawn = self._pipeline(
                prompt=[prompt] * len(seeds),
                generator=[torch.Generator("cpu").manual_seed(own) for own in seeds],
                num_inference_steps=self.sampling.steps,
                guidance_scale=self.sampling.guidance,
                height=self.sampling.side,
                width=self.sampling.side,
                output_type="np",
            ).images
            if not np.isfinite(drawn).all():
                raise UserError("The image generator gave pixels that are not numbers; set half_on_cuda: false for it.")
            parts.append(to_tensor((drawn * 255).round().clip(0, 255).astype(np.uint8)))
        return torch.cat(parts)


def need_diffusers() -> None:
    """Check that diffusers is installed.

    Raises:
        UserError: It is not.
    """
    missing = [name for name in ("diffusers", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f'The image generator needs the package {missing[0]}; install it with: pip install "clear-benchmark[paper]"'
        )


def _check_tokenizer(pipeline: Any, source: Path | str) -> None:
    """Refuse the near-empty or endless tokenizer that some versions of transformers build without an error."""
    tokenizer, encoder = pipeline.tokenizer, getattr(pipeline, "text_encoder", None)
    vocabulary = getattr(getattr(encoder, "config", None), "vocab_size", None)
    if tokenizer is None or vocabulary is None:
        return
    if len(tokenizer) < 0.9 * vocabulary or tokenizer.model_max_length > 100_000:
        raise UserError(
            f"{source}: the tokenizer has {len(tokenizer)} entries (the text encoder {vocabulary}) for texts of up to "
            f"{tokenizer.model_max_length} tokens; restore the folder."
        )
