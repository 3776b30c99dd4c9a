"""A vision-language model that names what several images have in common, without captions in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import UInt8
from torch import Tensor

from tasks.common.images import resize_to
from tasks.language.chat import ChatModel
from tasks.language.naming import ConceptNamer
from tasks.language.picture import MOST_EDGE, Picture
from tasks.language.prompts import VERSION, Mode, picture_messages


class VisionLanguageDescriber(ConceptNamer):
    """Names what images have in common: the variant of Describe-and-Dissect in which the chat model sees the images.

    See ``ConceptNamer`` for the handling of replies. As published (Bai et al., TMLR 2025, with GPT-4o): the unit's ten
    images at once, temperature 0.3, at most 300 tokens.

    Text inside an image may instruct the model; as with captions, it can make a label wrong and nothing else.

    Args:
        model: A chat model that reads images.
        mode: ``fixed``, or ``code``: as released, the instruction is both system text and user text, and replies are
            not checked.
        max_tokens: Maximum number of tokens of a reply.
        edge: Pixels of an image's longer side; larger images are reduced, smaller ones are left as they are.
    """

    uses_contrast: bool = True
    version: ClassVar[str] = VERSION

    def __init__(
        self,
        model: ChatModel,
        mode: Mode = "fixed",
        temperature: float = 0.3,
        max_tokens: int = 300,
        edge: int = MOST_EDGE,
    ) -> None:
        super().__init__(model, mode, temperature, max_tokens)
        self.edge = edge

    def describe(
        self,
        pictures: Sequence[UInt8[Tensor, "3 h w"]],
        seed: int,
        contrast: Sequence[UInt8[Tensor, "3 h w"]] = (),
    ) -> str:
        """Name what most images have in common; an empty string if there is no name.

        Args:
            pictures: In the order in which they are shown.
            seed: Selects the sample of the reply, in [0, 2³²).
            contrast: Images without the concept, shown after the others.

        Raises:
            LanguageModelError: The model cannot be used; see ``tasks.language.chat``.
        """
        if not pictures:
            return ""
        shown, beside = ([bounded(one, self.edge) for one in group] for group in (pictures, contrast))
        return self.name(picture_messages(shown, self.mode, beside), seed)


def bounded(image: UInt8[Tensor, "3 h w"], edge: int) -> Picture:
    """An image whose longer side has at most ``edge`` pixels; the aspect ratio is kept."""
    height, width = image.shape[-2:]
    scale = min(1.0, edge / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = resize_to(image[None], size)[0].permute(1, 2, 0).contiguous().cpu()
    return Picture(*size, small.numpy().tobytes())
