"""The profile fields of a probing set on disk, and how to get each set; read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictFloat, StrictInt

BrodenSize = Literal[224, 227, 384]
BrodenCategory = Literal["object", "part", "scene", "texture", "color", "material"]
CifarVariant = Literal["cifar10", "cifar100"]

BRODEN_CATEGORIES: tuple[BrodenCategory, ...] = ("object", "part", "scene", "texture", "color")
"""Network Dissection's own choice: material is annotated, but excluded."""

IMAGENET_BYTES = 6_744_924_160
IMAGENET_HELP = (
    "Get ILSVRC2012_img_val.tar from https://image-net.org (free registration, for non-commercial research), unpack "
    "it, and set the probing set's 'path' to that folder; for class names also set 'ground_truth'."
)


FOLDER_HELP = "name a folder of images with --images FOLDER."


@dataclass(frozen=True)
class Cifar:
    """The layout of one CIFAR version.

    Attributes:
        labels: Bytes before the pixels of a record; the last one is the class.
        train: Files of the training images.
        test: Files of the test images.
        names: File of the class names.
        pickled: Folder of the Python version's archive.
        size: Bytes of the archive.
    """

    classes: int
    labels: int
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    pickled: str
    size: int
    help: str


def _cifar_help(number: int) -> str:
    return (
        f"Get cifar-{number}-binary.tar.gz, the 'binary version', from https://www.cs.toronto.edu/~kriz/cifar.html, "
        "unpack it, and set the probing set's 'path' to its folder."
    )


CIFAR: dict[CifarVariant, Cifar] = {
    "cifar10": Cifar(
        classes=10,
        labels=1,
        folder="cifar-10-batches-bin",
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test=("test_batch.bin",),
        names="batches.meta.txt",
        pickled="cifar-10-batches-py",
        size=170_052_171,
        help=_cifar_help(10),
    ),
    "cifar100": Cifar(
        classes=100,
        labels=2,
        folder="cifar-100-binary",
        train=("train.bin",),
        test=("test.bin",),
        names="fine_label_names.txt",
        pickled="cifar-100-python",
        size=168_513_733,
        help=_cifar_help(100),
    ),
}


def broden_help(size: int) -> str:
    """How to get Broden in one of its sizes."""
    return (
        f"Fetch it with 'python -m tasks.probing broden --size {size} --out FOLDER' and set the probing set's 'path' "
        f"to FOLDER/broden1_{size}, or set it to a copy of your own."
    )


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class _Source(BaseModel):
    """The fields of all sources.

    Attributes:
        path: The folder; relative to the profile file.
        max_skipped: Largest share of the examined images that may be unusable.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    licence: str
    max_skipped: Annotated[StrictFloat | StrictInt, Field(ge=0, le=1)] = 0.1

    def resolved(self, base: Path) -> Self:
        """The same source with its paths made absolute; ``~`` is the user's home."""
        return self.model_copy(update={"path": base / self.path.expanduser()})


class FolderSource(_Source):
    """A folder of images, flat or with one subfolder per class.

    Attributes:
        hold_out: Whether the quarter of the files selected by ``tasks.probing.held_out`` is left to a retrieval
            generator.
    """

    loader: Literal["folder"]
    hold_out: StrictBool = Field(default=False, exclude_if=lambda held: not held)


class ImagenetSource(_Source):
    """ImageNet's validation images.

    Attributes:
        ground_truth: File with the classes of images in a single folder; relative to the profile file.
    """

    loader: Literal["imagenet"]
    ground_truth: Path | None = None

    def resolved(self, base: Path) -> Self:
        """The same source with its paths made absolute; ``~`` is the user's home."""
        truth = self.ground_truth and base / self.ground_truth.expanduser()
        return super().resolved(base).model_copy(update={"ground_truth": truth})


class BrodenSource(_Source):
    """Broden with its annotation.

    Attributes:
        size: Pixels per side, which selects the published archive.
        split: Only images of this split; null takes all.
        categories: The categories to read; a label's primary category is one of them.
        annotation: False reads the images alone, even if the label maps have been deleted.
    """

    loader: Literal["broden"]
    size: BrodenSize = 224
    split: Literal["train", "val"] | None = None
    categories: Annotated[tuple[BrodenCategory, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = (
        BRODEN_CATEGORIES
    )
    annotation: StrictBool = True


class CifarSource(_Source):
    """CIFAR-10 or CIFAR-100."""

    loader: Literal["cifar"]
    variant: CifarVariant = "cifar10"
    split: Literal["train", "test"] = "test"


Part = Annotated[FolderSource | ImagenetSource | BrodenSource | CifarSource, Field(discriminator="loader")]
"""A probing set in one place; ``loader`` selects the kind."""


class UnionSource(BaseModel):
    """Several sets as one; ``tasks.probing.union`` says how their annotation is combined.

    Attributes:
        parts: Name → set; an image's identifier starts with the name of its part.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    loader: Literal["union"]
    parts: Annotated[dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")], Part], Field(min_length=2)]

    @property
    def path(self) -> Path:
        """The folder of the first part."""
        return next(iter(self.parts.values())).path

    @property
    def licence(self) -> str:
        """The licences of all parts."""
        return "; ".join(f"{name}: {part.licence}" for name, part in self.parts.items())


Source = FolderSource | ImagenetSource | BrodenSource | CifarSource | UnionSource
"""A probing set on disk; ``loader`` selects the kind."""
