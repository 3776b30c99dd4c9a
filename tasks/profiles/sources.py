"""Sources of a profile's models: a library's published weights, a hub repository, or the user's files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, model_validator

# A factory is imported by this name and never evaluated, so nothing but a name may pass.
FACTORY = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"

# With these timm would load weights its own way, which may run code from a file; weights and classes are fields here.
NO_OPTIONS = r"pretrained\w*|checkpoint_path|cache_dir|num_classes"


class Strict(BaseModel):
    """No unknown fields, and immutable after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def optional(default: Any = None) -> Any:
    """A field that is dumped only if it differs from its default, so that older profiles keep their identity."""
    return Field(default=default, exclude_if=lambda value: value == default)


def unhashed() -> Any:
    """An informative optional field that does not affect results; it is never dumped."""
    return Field(default=None, exclude=True)


def _as_factory(name: str) -> str:
    if not re.fullmatch(FACTORY, name):
        raise ValueError(f"the factory {name!r} is not of the form package.module:function")
    return name


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Share = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]
Bytes = Annotated[StrictInt, Field(ge=0)] | None
Side = Annotated[int, Field(ge=32)]
Count = Annotated[StrictInt, Field(ge=1)]


class Input(Strict):
    """A target network's preprocessing: see ``tasks.models.preprocessing.Preprocessing``."""

    resize: Side
    crop: Side | None = None
    mean: Annotated[tuple[Share, Share, Share], BeforeValidator(_as_tuple)]
    std: Annotated[tuple[Deviation, Deviation, Deviation], BeforeValidator(_as_tuple)]
    interpolation: Literal["bilinear", "bicubic"] = optional("bilinear")

    @model_validator(mode="after")
    def _crop_fits(self) -> Input:
        if self.crop is not None and self.crop > self.resize:
            raise ValueError(f"crop {self.crop} is larger than resize {self.resize}; no image would be large enough")
        return self


class PlantedFile(Strict):
    """Planted units of a ResNet's ``layer4``: see ``tasks.models.planted``."""

    weights: Path
    sha256: str | None = None


class ReadoutFile(Strict):
    """What the units of a layer are, if not its channels: see ``tasks.models.dictionaries``.

    Attributes:
        kind: ``dictionary`` (a sparse autoencoder, whose latents are the units) or ``directions``.
        layer: Dotted name of the layer.
        settings: How the file is read, as far as it does not say so itself: ``activation``, ``k`` and others.
    """

    kind: Literal["dictionary", "directions"]
    layer: str
    weights: Path
    sha256: str | None = None
    settings: dict[str, bool | int | float | str] = optional({})


class Target(Strict):
    """A target network.

    Attributes:
        loader: The library of the model definition; ``factory`` is a user's function.
        architecture: Its name there, or ``package.module:function``; the function is called without arguments.
        options: Keyword arguments of timm's model function, e.g. ``depth``, for your own weights.
        classes: Number of outputs; absent means the library's default.
        pretrained: Tag of the published weights: a name of torchvision's weights enum, or timm's tag. It also defines
            the preprocessing, so ``input`` may be left out.
        revision: Commit of timm's hub repository; absent means the newest.
        weights: File with the weights (safetensors, or a PyTorch file that is read with ``weights_only``), relative to
            the profile file, or ``package:NAME/FILE`` for a file of an installed package. Together with ``pretrained``
            it is a local copy of the published file.
        strip_prefix: Removed from the front of the names in that file, e.g. ``module.``.
        match: ``order`` assigns the file's tensors to the architecture's in order, for weights of another
            implementation with other names; shapes are checked. The file must be pinned by ``sha256``.
        sha256: Hash of the weights; not checked if missing.
        size: Size of the weights in bytes.
        licence: Licence of the weights; null if unknown.
        get: How to get the file, for ``doctor``.
        input: Its preprocessing; required for a factory, and for torchvision's without ``pretrained``.
        planted: Units to add after the channels of its last stage.
        readout: What the units of one of its layers are, if not its channels.
    """

    loader: Literal["torchvision", "timm", "factory"]
    architecture: str
    options: dict[str, bool | int | float | str] | None = optional()
    classes: Annotated[int, Field(ge=1)] | None = optional()
    pretrained: str | None = optional()
    revision: str | None = optional()
    weights: Path | None = optional()
    strip_prefix: str = optional("")
    match: Literal["names", "order"] = optional("names")
    sha256: str | None = None
    size: Bytes = unhashed()
    licence: str | None
    get: str | None = unhashed()
    input: Input | None = optional()
    planted: PlantedFile | None = None
    readout: ReadoutFile | None = optional()

    @model_validator(mode="after")
    def _whole(self) -> Target:
        if self.loader == "factory":
            self._whole_factory()
        elif self.weights is None and self.pretrained is None:
            raise ValueError("name the weights: a file (weights) or the tag of published ones (pretrained)")
        if self.input is None and (self.loader == "factory" or (self.loader == "torchvision" and not self.pretrained)):
            raise ValueError("say how images are prepared (input), since no published weights say it")
        if self.strip_prefix and (self.weights is None or self.pretrained):
            raise ValueError("strip_prefix is for a file of weights (weights) without pretrained")
        if self.match == "order" and (self.weights is None or self.pretrained or not self.sha256):
            raise ValueError("match: order is for a file of weights (weights) without pretrained, pinned by its sha256")
        if self.options and (self.loader != "timm" or self.pretrained):
            raise ValueError("options are for timm's networks with a file of weights (weights) and without pretrained")
        wrong = next((name for name in self.options or {} if re.fullmatch(NO_OPTIONS, name)), None)
        if wrong:
            raise ValueError(f"options say the network's form; {wrong} is none: use weights and classes")
        if self.revision and self.loader != "timm":
            raise ValueError("revision is for timm's hub repositories")
        return self

    def _whole_factory(self) -> None:
        _as_factory(self.architecture)
        if self.pretrained or self.classes:
            raise ValueError("a factory is called without arguments: pretrained and classes have no effect")


class Source(Strict):
    """A model that a library loads from a hub repository or from a local folder of the same content.

    Attributes:
        name: Name of the hub repository, e.g. ``Salesforce/blip-image-captioning-base``.
        revision: Its commit; absent means the newest.
        path: Local folder, relative to the profile file; takes precedence over ``name``.
        weights: The weights file inside, for its hash.
        sha256: Hash of the weights file; not checked if missing.
        size: In bytes, as published.
        licence: Licence of the weights; null if unknown.
    """

    name: str | None = optional()
    revision: str | None = optional()
    path: Path | None = optional()
    weights: str | None = optional()
    sha256: str | None = None
    size: Bytes = unhashed()
    licence: str | None

    @model_validator(mode="after")
    def _somewhere(self) -> Source:
        if self.path is None and self.name is None:
            raise ValueError("say where it comes from: a local folder (path) or a published name (name)")
        if self.sha256 and self.weights is None:
            raise ValueError("sha256 is of one file: name it (weights)")
        return self


class ClipSource(Source):
    """An image-text encoder of open_clip: a folder with ``open_clip_config.json``, or a name with a tag.

    Attributes:
        pretrained: Tag of the published weights of ``name``, e.g. ``openai`` of ``ViT-B-16``.
        half_on_cuda: Whether weights are float16 on a CUDA device.
    """

    loader: Literal["open_clip"]
    pretrained: str | None = optional()
    half_on_cuda: bool = optional(False)

    @model_validator(mode="after")
    def _tagged(self) -> ClipSource:
        if self.path is None and self.pretrained is None:
            raise ValueError("a published name needs the tag of its weights (pretrained)")
        if self.path is None and (self.revision or self.weights):
            raise ValueError("revision and weights are for a folder; open_clip's tags know their file")
        return self


class OnnxClipSource(Source):
    """An image-text encoder of two ONNX files in a folder: see ``tasks.models.onnx_clip``.

    Attributes:
        input: Its preprocessing, without a crop: it sees what the target sees.
        token_limit: Maximum tokens of a text, including its start and end token.
    """

    loader: Literal["onnx"]
    input: Input
    token_limit: Count = 77

    @model_validator(mode="after")
    def _in_a_folder(self) -> OnnxClipSource:
        if self.path is None or self.name or self.revision:
            raise ValueError("the loader onnx reads a local folder (path), and no published name or revision")
        if self.input.crop is not None:
            raise ValueError("clip sees all of an image that the target sees: leave crop out of its input")
        return self


class FactorySource(Strict):
    """A model of the user's own for any role of the profile: see ``tasks.roles``.

    Its answers are not cached, because the function's code has no hash.

    Attributes:
        factory: ``package.module:function`` that returns the model.
        kwargs: Keyword arguments of the function.
        licence: Licence of the weights; null if unknown.
    """

    loader: Literal["factory"]
    factory: Annotated[str, AfterValidator(_as_factory)]
    kwargs: dict[str, bool | int | float | str] = optional({})
    licence: str | None


class Calibrated(Strict):
    """The probability that an image shows a text, by an encoder's cosine: 1 / (1 + exp(-scale · (cosine + shift))).

    Both belong to the encoder: measured once, on annotated clean images, by ``baselines.linear.calibrate``.
    """

    scale: Annotated[float, Field(gt=0)]
    shift: float


class SimulatorSource(ClipSource, Calibrated):
    """An image-text encoder of open_clip that simulates activations."""


class SimulatorFactory(FactorySource, Calibrated):
    """The user's own image-text encoder that simulates activations."""


class ConseSource(Strict):
    """An image-text encoder made of a classifier and the profile's sentence encoder: see ``tasks.models.conse``.

    Attributes:
        classifier: The classifier; must differ from the networks under study, or they would judge themselves.
        class_names: Text file with the names of its classes, one class per line, names separated by commas; absent
            means ImageNet's 1,000.
        top: Number of an image's most probable classes used.
        licence: Licence of the classifier's weights.
    """

    loader: Literal["conse"]
    classifier: Target
    class_names: Path | None = optional()
    top: Count = 10
    licence: str | None


class SentenceSource(Source):
    """A sentence encoder of sentence-transformers."""

    loader: Literal["sentence_transformers"]


class CaptionerSource(Source):
    """A captioner of transformers, decoding greedily.

    Attributes:
        loader: The class that reads it; ``image_text_to_text`` is any vision-language model with a chat template.
        max_new_tokens: Maximum caption length.
        min_length: Minimum length in tokens as transformers counts it; absent means its default.
        prompt: What a vision-language model is asked about each image.
        half_on_cuda: Whether weights are float16 on a CUDA device, bfloat16 of a vision-language model.
    """

    loader: Literal["blip", "blip2", "image_text_to_text"]
    max_new_tokens: Count = optional(32)
    min_length: Count | None = optional()
    prompt: Annotated[str, Field(min_length=1)] | None = optional()
    half_on_cuda: bool = optional(False)

    @model_validator(mode="after")
    def _of_its_kind(self) -> CaptionerSource:
        asked = self.loader == "image_text_to_text"
        if asked != (self.prompt is not None):
            raise ValueError("prompt is what the loader image_text_to_text asks; it needs one, and blip takes none")
        if asked and self.min_length is not None:
            raise ValueError("min_length is for blip and blip2; say in the prompt how long a caption should be")
        return self


class GeneratorSource(Source):
    """A text-to-image pipeline of diffusers.

    Attributes:
        scheduler: ``dpmsolver++`` (multistep, as published for Describe-and-Dissect), or the pipeline's ``own``.
        steps: Denoising steps.
        guidance: Classifier-free guidance; up to 1 there is none, as distilled models require.
        side: Image side in pixels; absent means the pipeline's own.
        variant: Variant of the weights files in the repository, e.g. ``fp16``.
        half_on_cuda: Whether weights are float16 on a CUDA device.
    """

    loader: Literal["diffusers"]
    scheduler: Literal["dpmsolver++", "own"] = "dpmsolver++"
    steps: Annotated[StrictInt, Field(ge=1, le=1000)] = 50
    guidance: Annotated[float, Field(ge=0, le=100)] = 7.5
    side: Annotated[int, Field(ge=8, multiple_of=8)] | None = None
    variant: str | None = None
    half_on_cuda: bool = True


class RetrievalSource(Strict):
    """Photographs retrieved by the profile's ``clip`` instead of generated ones: see ``tasks.models.retrieval``.

    Attributes:
        path: Folder of photographs, relative to the profile file.
        held_out: Whether only the quarter of its files is used that a ``folder`` probing set with ``hold_out`` leaves
            to it, so that one folder serves both. False uses all files except those that a probing folder of the
            profile also contains.
        side: Side of the images in pixels, before the network's view is taken of them.
        most: Maximum number of photographs considered.
    """

    loader: Literal["retrieval"]
    path: Path
    held_out: bool = True
    side: Side = 256
    most: Count = 2000
    licence: str | None


class SegmenterSource(Strict):
    """A foreground segmenter.

    Attributes:
        loader: ``lraspp_mobilenet_v3_large`` (weights with one output, from a file), ``torchvision`` (a published
            semantic segmentation whose class 0 is the background), ``onnx_u2net`` (a U²-Net in ONNX, from a file) or
            ``grabcut`` (no weights).
        architecture: Name in torchvision, e.g. ``deeplabv3_resnet50``.
        pretrained: Tag of its published weights.
        weights: Weights file, also from a package as for a target; with ``torchvision`` a local copy of the published
            file.
        sha256: Hash of that file; not checked if missing.
        side: Side of the network's input in pixels.
        licence: Licence of the weights; null if unknown.
        get: How to get the file, for ``doctor``.
    """

    loader: Literal["lraspp_mobilenet_v3_large", "torchvision", "onnx_u2net", "grabcut"]
    architecture: str | None = optional()
    pretrained: str | None = optional()
    weights: Path | None = optional()
    sha256: str | None = None
    size: Bytes = unhashed()
    side: Side | None = optional()
    licence: str | None
    get: str | None = unhashed()

    @model_validator(mode="after")
    def _whole(self) -> SegmenterSource:
        needed = {
            "lraspp_mobilenet_v3_large": ("weights", "side"),
            "torchvision": ("architecture", "pretrained", "side"),
            "onnx_u2net": ("weights", "side"),
            "grabcut": (),
        }[self.loader]
        missing = [field for field in needed if getattr(self, field) is None]
        if missing:
            raise ValueError(f"the loader {self.loader} needs {' and '.join(missing)}")
        return self
