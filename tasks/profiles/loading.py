"""Loading a profile's models: where their files are, whether they are the right ones, and one sentence if not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tasks.common.errors import UserError
from tasks.common.offline import is_offline
from tasks.models.segmenter import ForegroundSegmenter, lraspp
from tasks.models.weights import check_file, load_weights
from tasks.packages import package_of
from tasks.probing.imagenet_classes import imagenet_names
from tasks.profiles.fetch import fetching, torchvision_file
from tasks.profiles.locate import Resource, locate_conse, locate_segmenter, locate_source
from tasks.profiles.networks import build_network, published_torchvision, torchvision_tag
from tasks.profiles.resolve import require
from tasks.profiles.sources import ConseSource, SegmenterSource, Source
from tasks.roles import ImageTextEncoder, Segmenter, SentenceEncoder


def trained_segmenter(entry: SegmenterSource, device: torch.device) -> Segmenter:
    """A segmentation network with trained weights, for all loaders except ``grabcut``.

    Raises:
        UserError: A missing or wrong file, or one that cannot be downloaded.
    """
    side = entry.side or 0  # the schema requires it for these loaders, and the others below
    if entry.weights is not None and package_of(entry.weights):
        require([locate_segmenter(entry)])
    if entry.loader == "onnx_u2net":
        from tasks.models.onnx_segmenter import U2NetSegmenter

        check_file(entry.weights or Path(), entry.sha256)
        return U2NetSegmenter(entry.weights or Path(), side)
    if entry.loader == "lraspp_mobilenet_v3_large":
        return ForegroundSegmenter(lraspp(load_weights(entry.weights or Path(), entry.sha256)), side, device)
    architecture, tag = entry.architecture or "", entry.pretrained or ""
    path = entry.weights or torchvision_file(torchvision_tag(architecture, tag), "the segmenter's weights")
    check_file(path, entry.sha256)
    return ForegroundSegmenter(published_torchvision(architecture, tag, path, weights_backbone=None), side, device)


def conse_encoder(entry: ConseSource, sentences: SentenceEncoder | None, device: torch.device) -> ImageTextEncoder:
    """A ConSE encoder from a classifier and its class names, as the image-text role.

    Raises:
        UserError: A missing or wrong file, or weights that do not fit.
    """
    from tasks.models.conse import ConseEncoder

    if sentences is None:
        raise UserError("clip with the loader conse needs the profile's sentence_encoder.")
    require_offline(locate_conse("clip", entry))
    if entry.classifier.weights is not None and package_of(entry.classifier.weights):
        require([locate_conse("clip", entry)])
    network, prepare = build_network(entry.classifier, "the classifier of clip")
    names = imagenet_names()
    if entry.class_names is not None:
        names = _lines(entry.class_names)
    return ConseEncoder(network, prepare, sentences, names, device, entry.top)


def _lines(path: Path) -> tuple[str, ...]:
    try:
        names = tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The class names {path} cannot be read as text ({error}).") from None
    if not names or any(not name.strip(" ,") for name in names):
        raise UserError(f"{path} must name one class per line, but has a line without a name.")
    return names


@contextmanager
def loading(role: str, entry: Source, loader: str) -> Iterator[Path | str]:
    """Yields what a library is to load: a checked folder, or a name that it downloads, with its hash checked then."""
    source = _ready(role, entry, loader)
    with fetching(f"the {role.replace('_', ' ')} {source}", "path: FOLDER"):
        yield source
    if entry.path is None and entry.sha256:
        require([locate_source(role, entry, loader)])


def _ready(role: str, entry: Source, loader: str) -> Path | str:
    found = locate_source(role, entry, loader)
    if entry.path is not None:
        if entry.weights is not None:
            check_file(entry.path / entry.weights, entry.sha256)
        require([found])
        return entry.path
    require_offline(found)
    return entry.name or ""


def require_offline(found: Resource) -> None:
    """Offline, refuse missing files at once; a wrong file is refused in any case."""
    if is_offline() or found.state == "hash differs":
        require([found])
