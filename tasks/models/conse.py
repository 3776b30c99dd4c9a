"""An image-text encoder without joint training: a classifier's probabilities times sentence embeddings (ConSE)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from tasks.common.errors import UserError
from tasks.models.batches import Batches
from tasks.models.layout import place
from tasks.models.preprocessing import Preprocessing
from tasks.roles import SentenceEncoder


class ConseEncoder:
    """Convex combination of semantic embeddings (Norouzi et al., ICLR 2014, arXiv 1312.5650) as the image-text role.

    With p₁ ≥ … ≥ p_T the classifier's T largest probabilities for an image and s₁ … s_T the embeddings of these
    classes' names, the image's embedding is Σ pₜ·sₜ / Σ pₜ, normalised to unit norm. A text's is the sentence
    encoder's.

    A class's embedding is the mean of those of all its names ("puma" and "cougar" alike), normalised to unit norm. What
    the classes do not distinguish, such as colours, textures and scenes, this encoder cannot represent.

    Args:
        network: A classifier; maps [n, 3, side, side] to logits [n, classes].
        prepare: Maps uint8 images to its input.
        class_names: The classes in the order of the logits, the names of a class separated by commas.
        top: T; 10 in the paper.
    """

    def __init__(
        self,
        network: nn.Module,
        prepare: Preprocessing,
        sentences: SentenceEncoder,
        class_names: Sequence[str],
        device: torch.device,
        top: int = 10,
        batch_size: int = 64,
    ) -> None:
        self._network = place(network.eval(), device, channels_last=True)
        self._prepare = prepare
        self._device = device
        self._batches = Batches(batch_size)
        self._sentences = sentences
        self._top = min(top, len(class_names))
        self._names = [[name.strip() for name in one.split(",") if name.strip()] for one in class_names]
        self._classes: dict[int, Float[Tensor, " d"]] = {}

    @torch.inference_mode()
    def encode_images(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Embed images; float32 on the CPU.

        Raises:
            UserError: The number of the classifier's outputs differs from that of the class names.
        """

        def classify(batch: Tensor) -> Tensor:
            pixels = self._prepare(batch.to(self._device)).contiguous(memory_format=torch.channels_last)
            return self._network(pixels).float().cpu()

        logits = torch.cat(list(self._batches.run(classify, images)))
        if logits.shape[1] != len(self._names):
            raise UserError(
                f"The classifier of the image-text encoder (clip) has {logits.shape[1]} outputs, but "
                f"{len(self._names)} classes are named; correct its class_names."
            )
        weights, classes = logits.softmax(dim=-1).topk(self._top, dim=-1)
        if not len(images):
            return torch.zeros((0, self._of_classes([0]).shape[1]))
        numbers, places = classes.unique(return_inverse=True)
        embedded = self._of_classes(numbers.tolist())[places]
        mixed = torch.einsum("nt,ntd->nd", weights / weights.sum(dim=-1, keepdim=True), embedded)
        return functional.normalize(mixed, dim=-1)

    def _of_classes(self, numbers: Sequence[int]) -> Float[Tensor, "k d"]:
        """The embeddings of classes; their names are embedded when first needed."""
        new = [number for number in numbers if number not in self._classes]
        texts = [name for number in new for name in self._names[number]]
        if texts:
            parts = torch.from_numpy(self._sentences.encode(texts)).float().split([len(self._names[n]) for n in new])
            self._classes.update({n: functional.normalize(p.mean(0), dim=-1) for n, p in zip(new, parts, strict=True)})
        return torch.stack([self._classes[number] for number in numbers])

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Embed strings without a template."""
        return torch.from_numpy(self._sentences.encode(texts))

    def over_limit(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Which texts the sentence encoder truncates."""
        return self._sentences.over_limit(texts)
