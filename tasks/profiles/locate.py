"""Where the files of a profile's model are, or would be: looked up on this machine alone, nothing is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from tasks.language.config import TransformersSource
from tasks.packages import install_command, package_of
from tasks.profiles.sources import ClipSource, ConseSource, GeneratorSource, SegmenterSource, Source, Target

State = Literal["present", "missing", "hash differs", "server"]
Lookup = Callable[[str], Path | None]
Groups = Sequence[tuple[str, ...]]

_TRANSFORMERS_WEIGHTS: Final = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_TOKENIZER: Final = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model")
_PROCESSED: Final[Groups] = (
    ("config.json",),
    _TRANSFORMERS_WEIGHTS,
    ("processor_config.json", "preprocessor_config.json"),
    _TOKENIZER,
)
_NEEDED: Final[Mapping[str, Groups]] = {
    "blip": _PROCESSED,
    "blip2": _PROCESSED,
    "image_text_to_text": _PROCESSED,
    "transformers": (("config.json",), _TRANSFORMERS_WEIGHTS, _TOKENIZER),
    "sentence_transformers": (("modules.json",), ("config.json",), _TRANSFORMERS_WEIGHTS, _TOKENIZER),
    "onnx": (("image.onnx",), ("text.onnx",), ("tokenizer.json",)),
    "open_clip": (
        ("open_clip_config.json",),
        ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors", "pytorch_model.bin"),
    ),
}
# Copies of the weights in other formats, which some repositories also contain.
_EXCLUDED: Final = "--exclude '*.ckpt' --exclude '*.h5' --exclude '*.msgpack'"


@dataclass(frozen=True)
class Resource:
    """The files of one role of a profile.

    Attributes:
        role: ``clip``, ``target resnet50`` and so on.
        source: A description of the source.
        state: Whether its files are on this machine; a ``server`` cannot be checked without a request.
        where: File or folder where they are, or would be; None if only the library knows.
        size: Bytes: of the existing files, else as published; None if unknown.
        licence: Of the weights or images; None if unknown.
    """

    role: str
    source: str
    state: State
    where: Path | None
    size: int | None
    licence: str | None
    get: str

    @property
    def commit(self) -> str | None:
        """Commit of a repository in the hub's cache, to be pinned as ``revision``; None for anything else."""
        parts = self.where.parts if self.where else ()
        return parts[parts.index("snapshots") + 1] if "snapshots" in parts[:-1] else None


def locate_target(name: str, entry: Target) -> Resource:
    """The location of a target network's weights.

    Raises:
        UserError: An unknown architecture or tag.
    """
    role = f"target {name}"
    if entry.weights is not None:
        made = f"{entry.loader} {entry.architecture}"
        return _file(role, made, entry.weights, entry)
    if entry.loader == "factory":
        made = f"function {entry.architecture}"
        return Resource(role, made, "present", None, None, entry.licence, "the function brings its weights")
    tag = entry.pretrained or ""
    if entry.loader == "torchvision":
        return _torchvision(role, entry.architecture, tag, entry)
    from tasks.profiles.networks import timm_tag

    config = timm_tag(entry.architecture, tag)
    source = f"timm {entry.architecture}.{tag}"
    if not config.hf_hub_id:
        return Resource(role, source, "missing", None, entry.size, entry.licence, f"fetch {config.url}; weights: FILE")
    wanted = ((config.hf_hub_filename,),) if config.hf_hub_filename else (("model.safetensors", "pytorch_model.bin"),)
    found = _hub(config.hf_hub_id, entry.revision, wanted)
    return _resource(role, source, found, entry, _hub_command(config.hf_hub_id, entry.revision))


def locate_source(role: str, entry: Source | TransformersSource, loader: str) -> Resource:
    """The location of a hub repository's or folder's files."""
    if entry.path is not None:
        folder = entry.path
        lookup = _in_folder(folder)
        found = _found(lookup, _groups(entry, loader, lookup))
        made = f"{loader} {entry.name or 'folder'}"
        how = _hub_command(entry.name, entry.revision, folder) if entry.name else f"restore the folder {folder}"
        return replace(_resource(role, made, found, entry, how), where=folder)
    if isinstance(entry, ClipSource):
        return _clip(role, entry)
    name = entry.name or ""
    lookup = _in_cache(name, entry.revision)
    found = _found(lookup, _groups(entry, loader, lookup))
    made = f"{loader} {name}" + (f"@{entry.revision[:12]}" if entry.revision else "")
    return _resource(role, made, found, entry, _hub_command(name, entry.revision))


def locate_conse(role: str, entry: ConseSource) -> Resource:
    """The location of the weights of a ConSE encoder's classifier.

    Raises:
        UserError: An unknown architecture or tag.
    """
    found = locate_target(role, entry.classifier)
    return replace(found, role=role, source=f"conse with {found.source}")


def locate_segmenter(entry: SegmenterSource) -> Resource:
    """The location of a segmenter's weights.

    Raises:
        UserError: An unknown architecture or tag.
    """
    if entry.loader == "grabcut":
        return Resource("segmenter", "grabcut", "present", None, 0, entry.licence, "part of OpenCV")
    if entry.weights is not None:
        made = entry.architecture or entry.loader
        return _file("segmenter", made, entry.weights, entry)
    return _torchvision("segmenter", entry.architecture or "", entry.pretrained or "", entry)


def locate_file(role: str, source: str, path: Path, licence: str | None = None, get: str | None = None) -> Resource:
    """The location of one file or folder."""
    state: State = "present" if path.exists() else "missing"
    size = path.stat().st_size if path.is_file() else None
    return Resource(role, source, state, path, size, licence, get or f"put it at {path}")


def _file(role: str, source: str, path: Path, entry: Target | SegmenterSource) -> Resource:
    package = package_of(path)  # if it is not installed, its files have no path yet
    if package is not None:
        get = entry.get or install_command(package)
        return Resource(role, f"{source} of {package}", "missing", None, entry.size, entry.licence, get)
    found = locate_file(role, source, path, entry.licence, entry.get and f"{entry.get}; put it at {path}")
    if found.state == "missing":
        return replace(found, size=entry.size)
    return replace(found, state=_state([path], path if entry.sha256 else None, entry.sha256))


def _torchvision(role: str, architecture: str, tag: str, entry: Target | SegmenterSource) -> Resource:
    from tasks.profiles.fetch import torchvision_path
    from tasks.profiles.networks import torchvision_tag

    weights = torchvision_tag(architecture, tag)
    path = torchvision_path(weights)
    published = entry.size or (round(weights.meta["_file_size"] * 2**20) if "_file_size" in weights.meta else None)
    source = f"torchvision {architecture} ({tag})"
    get = f"curl -L --create-dirs -o {path} {weights.url}"
    if not path.is_file():
        return Resource(role, source, "missing", path, published, entry.licence, get)
    # The name of a published file ends in the first digits of its hash.
    state = _state([path], path, entry.sha256 or path.stem.rpartition("-")[2])
    return Resource(role, source, state, path, path.stat().st_size, entry.licence, get)


def _clip(role: str, entry: ClipSource) -> Resource:
    from tasks.models.clip_encoder import clip_tag, clip_tokenizer

    config = clip_tag(entry.name or "", entry.pretrained or "")
    made = f"open_clip {entry.name} ({entry.pretrained})"
    repository, _, file = config.get("hf_hub", "").rpartition("/")
    if not repository:
        url = config.get("url", "")
        return Resource(role, made, "missing", None, entry.size, entry.licence, f"fetch it once with network ({url})")
    wanted = ((file,),) if file else (("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),)
    found, get = _hub(repository, None, wanted), _hub_command(repository, None)
    tokenizer = clip_tokenizer(entry.name or "")
    if tokenizer is not None:
        texts = _hub(tokenizer, None, (_TOKENIZER,))
        found = found + texts if found and texts else None
        get += f" && hf download {tokenizer} --include '*token*'" if tokenizer != repository else ""
    return _resource(role, made, found, entry, get)


def _resource(
    role: str, source: str, found: list[Path] | None, entry: Source | TransformersSource | Target, get: str
) -> Resource:
    licence = entry.licence
    if found is None:
        return Resource(role, source, "missing", None, getattr(entry, "size", None), licence, get)
    weights = found[0]
    if not isinstance(entry, Target):
        weights = next((path for path in found if path.as_posix().endswith(f"/{entry.weights}")), None)
    state = _state(found, weights, entry.sha256)
    return Resource(role, source, state, found[0].parent, sum(path.stat().st_size for path in found), licence, get)


def _state(found: Sequence[Path], weights: Path | None, sha256: str | None) -> State:
    from tasks.models.weights import file_sha256

    if not all(path.is_file() for path in found) or (sha256 and weights is None):
        return "missing"
    if sha256 and weights and not file_sha256(weights).startswith(sha256.lower()):
        return "hash differs"
    return "present"


def _groups(entry: Source | TransformersSource, loader: str, lookup: Lookup) -> Groups:
    """Groups of files of which one each is needed; for a diffusion pipeline, from its own index."""
    if not isinstance(entry, GeneratorSource):
        return _NEEDED[loader]
    index = lookup("model_index.json")
    if index is None:
        return (("model_index.json",),)
    groups: list[tuple[str, ...]] = [("model_index.json",)]
    for part, made in json.loads(index.read_text(encoding="utf-8")).items():
        if not isinstance(made, list) or made[0] is None or part in ("safety_checker", "feature_extractor"):
            continue
        if part == "scheduler":
            groups.append((f"{part}/scheduler_config.json",))
        elif part.startswith("tokenizer"):
            groups.append(tuple(f"{part}/{name}" for name in _TOKENIZER))
        else:
            weights = tuple(f"{part}/{name}" for name in _diffusers_weights(entry.variant))
            groups += [(f"{part}/config.json",), weights]
    return groups


def _diffusers_weights(variant: str | None) -> Iterator[str]:
    within = f".{variant}" if variant else ""
    for stem in ("diffusion_pytorch_model", "model", "pytorch_model"):
        yield f"{stem}{within}.safetensors"
        yield f"{stem}.safetensors.index{within}.json"
        yield f"{stem}{within}.bin"


def _found(lookup: Lookup, groups: Groups) -> list[Path] | None:
    """One file of each group, and the files named by their indexes; None if something is missing."""
    found: list[Path] = []
    for group in groups:
        path = next((path for name in group if (path := lookup(name)) is not None), None)
        if path is None:
            return None
        found.append(path)
        if ".index." in path.name:
            shards = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
            parts = [path.parent / shard for shard in sorted(shards)]
            if not all(part.is_file() for part in parts):
                return None
            found += parts
    return found


def _in_folder(folder: Path) -> Lookup:
    return lambda name: folder / name if (folder / name).is_file() else None


def _in_cache(repository: str, revision: str | None) -> Lookup:
    from huggingface_hub import try_to_load_from_cache

    def lookup(name: str) -> Path | None:
        found = try_to_load_from_cache(repository, name, revision=revision)
        return Path(found) if isinstance(found, str) else None

    return lookup


def _hub(repository: str, revision: str | None, groups: Groups) -> list[Path] | None:
    return _found(_in_cache(repository, revision), groups)


def _hub_command(repository: str, revision: str | None, folder: Path | None = None) -> str:
    at = f" --revision {revision}" if revision else ""
    to = f" --local-dir {folder}" if folder else ""
    return f"hf download {repository}{at}{to} {_EXCLUDED}"
