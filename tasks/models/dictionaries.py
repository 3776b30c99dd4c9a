"""Dictionaries (sparse autoencoders) and directions from files: CLEAR's own format and those of other libraries.

| library | names in the file | what says activation and k |
| --- | --- | --- |
| CLEAR | ``encoder``, ``bias``, ``decoder`` [latents, width], ``centre``, ``threshold`` | the header's ``dictionary`` |
| saev | ``W_enc``, ``b_enc``, ``W_dec``, ``b_dec`` | the line of JSON before the weights |
| SAELens, ViT-Prisma | the same, and ``threshold`` | ``cfg.json`` or ``config.json`` in the folder |
| overcomplete | ``encoder.final_block.0.weight``, ``dictionary._weights`` | ``config.json`` in the folder |
| VISAEBench | ``encoder.weight``, ``encoder.bias``, ``decoder.weight`` | ``config.json`` or ``config.yaml`` there |
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tasks.activations.readout import Readout
from tasks.common.errors import UserError
from tasks.common.yamlfile import read_yaml
from tasks.models.checkpoints import read_checkpoint
from tasks.models.weights import check_file

Kind: TypeAlias = Literal["dictionary", "directions"]
Settings: TypeAlias = Mapping[str, str | int | float | bool]
"""``activation``, ``k``, ``threshold``, ``centred``, ``scaling``, ``decoder_norm``, ``rectified``, see ``Readout``."""

HEADER: Final = "dictionary"
"""Key of the settings in the header of a safetensors file."""
_CONFIGS: Final = ("cfg.json", "config.json", "config.yaml", "config.yml")
_ACTIVATIONS: Final = {
    "relu": "relu", "standard": "relu", "vanilla": "relu", "topk": "topk", "jumprelu": "jumprelu",
    "batchtopk": "batchtopk",
}  # fmt: skip
_STATED: Final = ("activation_fn_str", "activation_fn", "activation", "sae_type", "architecture")
"""Where configurations state the activation; an architecture comes last, because "standard" may have any."""
_NUMBERS: Final = {
    "threshold": "threshold",
    "apply_b_dec_to_input": "centred",
    "centred": "centred",
    "rescale_acts_by_decoder_norm": "decoder_norm",
    "rectified": "rectified",
}
_SCALINGS: Final = {"none": "none", "layer_norm": "layer_norm", "constant_norm_rescale": "constant_norm"}
_IGNORED: Final = frozenset({"num_batches_tracked", "scaling_factor", "sparsity", "log_sparsity"})


def read_readout(
    kind: Kind, path: Path, layer: str, settings: Settings | None = None, sha256: str | None = None
) -> Readout:
    """Read a dictionary or directions.

    Args:
        path: ``.safetensors``, or what ``torch.save`` wrote (read with ``weights_only``).
        layer: Dotted name of the layer that they read.
        settings: From ``settings_of``; they take precedence over the header of the file.
        sha256: Hash of the file; not checked if None.

    Raises:
        UserError: A missing or wrong file, unknown names in it, sizes that do not fit each other, values that are not
            finite, or no activation, k or threshold where one is needed.
    """
    check_file(path, sha256)
    tensors = _tensors(path)
    if kind == "directions":
        parts, given = _directions(path, tensors), {}
    else:
        find = next((find for mark, find in _FORMATS.items() if mark in tensors), None)
        if find is None:
            raise UserError(
                f"{path} is no dictionary that CLEAR knows: it holds {_listed(tensors)}, but none of "
                f"{_listed(_FORMATS)} (docs/latents.md); rename its tensors, or give directions by --directions."
            )
        given = {**_header(path), **(settings or {})}
        parts = find(path, tensors, given)
    for name, tensor in parts.items():
        if not bool(tensor.isfinite().all()):
            raise UserError(f"In {path} the {name} holds a value that is not finite; restore the file.")
    units, width = parts["encoder"].shape
    shapes = {"bias": (units,), "decoder": (units, width), "centre": (width,), "threshold": (units,)}
    for name, shape in shapes.items():
        if name in parts and tuple(parts[name].shape) != shape:
            raise UserError(
                f"In {path} the {name} is {list(parts[name].shape)}, but an encoder of {units} latents for a layer of "
                f"{width} units needs {list(shape)}; restore the file."
            )
    how = {} if kind == "directions" else _how(path, given, parts, units)
    return Readout(layer=layer, **{name: tensor.contiguous() for name, tensor in parts.items()}, **how)


def settings_of(path: Path) -> Settings:
    """The settings that a file beside the dictionary states: ``cfg.json`` or ``config.json`` (or YAML) in its folder.

    Raises:
        UserError: That file cannot be read.
    """
    for name in (f"{path.stem}.json", *_CONFIGS):
        beside = path.with_name(name)
        if beside.is_file():
            return _settings(beside, read_yaml(beside))  # JSON is YAML too
    return {}


def save_dictionary(path: Path, parts: Mapping[str, Tensor], settings: Settings) -> None:
    """Write a dictionary in CLEAR's own format, in float16."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {name: tensor.half().contiguous() for name, tensor in parts.items()}
    save_file(stored, path, metadata={HEADER: json.dumps(dict(settings))})


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors" and _first_line(path):  # saev: a line of JSON before what torch.save wrote
        with path.open("rb") as file:
            file.readline()
            rest = io.BytesIO(file.read())
        try:
            tensors = torch.load(rest, map_location="cpu", weights_only=True)
        except Exception as error:  # torch's unpickler raises exceptions of any type
            raise UserError(f"{path} cannot be read as weights of saev ({type(error).__name__}).") from error
    else:
        tensors = read_checkpoint(path)
    return {name: tensor.detach().float() for name, tensor in tensors.items() if name.split(".")[-1] not in _IGNORED}


def _first_line(path: Path) -> dict[str, Any]:
    """The object in a file's first line; empty if there is none."""
    with path.open("rb") as file:
        line = file.readline(2**16) if file.read(1) == b"{" else b""
    try:
        found = json.loads(b"{" + line) if line else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _header(path: Path) -> Settings:
    """The settings in the file itself."""
    if path.suffix != ".safetensors":
        found = _first_line(path)
        return _settings(path, found.get("cfg", found)) if found else {}
    try:
        with safe_open(path, framework="pt") as stored:
            text = (stored.metadata() or {}).get(HEADER)
        return _settings(path, json.loads(text)) if text else {}
    except (SafetensorError, ValueError) as error:
        raise UserError(f"The header of {path} cannot be read ({error}); restore the file.") from error


def _settings(path: Path, config: Any) -> Settings:
    """The settings in a library's configuration, under the names of this module."""
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no configuration (names and values).")
    stated, options, found = _stated(config)
    if stated is not None:
        name = str(stated).lower().replace("-", "").replace("_", "")
        if name not in _ACTIVATIONS:
            raise UserError(f"{path} states the activation {str(stated)[:40]!r}; CLEAR has {_listed(_ACTIVATIONS)}.")
        found["activation"] = _ACTIVATIONS[name]
    k = next((options[key] for key in ("k", "top_k") if options.get(key) is not None), None)
    if k is not None:
        found["k"] = k
    for theirs, own in _NUMBERS.items():
        if isinstance(options.get(theirs), bool | int | float):
            found[own] = options[theirs]
    scaling = str(options.get("normalize_activations") or options.get("scaling") or "none")
    if scaling not in {**_SCALINGS, **dict.fromkeys(_SCALINGS.values())}:
        raise UserError(
            f"{path} states normalize_activations: {scaling[:40]}, whose factor is not in the file; fold it into the "
            "weights first, as its library can."
        )
    return found | {"scaling": _SCALINGS.get(scaling, scaling)}


def _stated(config: dict[str, Any]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The activation that a configuration states, all of its options, and settings that follow from its library."""
    stated = next((config[key] for key in _STATED if config.get(key)), None)
    options = {**config, **(config.get("activation_fn_kwargs") or {})}
    if isinstance(stated, dict):  # saev
        options |= stated.get("params") or stated
        stated = stated.get("cls") or stated.get("key")
        # At inference saev keeps the k largest of each position in either case, negative ones too.
        per_position = str(stated).lower().replace("-", "") == "batchtopk" and "threshold" not in options
        return "topk" if per_position else stated, options, {"centred": False, "rectified": False}
    if "d_vit" in config:  # saev before it stored an activation
        return "relu", options, {"centred": False}
    return stated, options, {}


def _how(path: Path, given: Settings, parts: dict[str, Tensor], units: int) -> dict[str, Any]:
    activation = given.get("activation") or ("jumprelu" if "threshold" in parts else None)
    if activation is None:
        raise UserError(
            f"{path} does not state its activation ({_listed(_ACTIVATIONS)}); say it in a config.json beside."
        )
    k = given.get("k")
    if activation == "topk" and (not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= units):
        raise UserError(
            f"{path} is a TopK dictionary of {units} latents, but states k = {k}; say it in a config.json beside."
        )
    if activation in ("jumprelu", "batchtopk") and "threshold" not in parts:
        if not isinstance(given.get("threshold"), int | float):
            raise UserError(f"{path} is a {activation} dictionary without a threshold, which it needs at inference.")
        parts["threshold"] = torch.full((units,), float(given["threshold"]))
    if activation not in ("jumprelu", "batchtopk"):
        parts.pop("threshold", None)
    return {
        "activation": activation,
        "k": k if activation == "topk" else None,
        "scaling": given.get("scaling", "none"),
        "rectified": bool(given.get("rectified", True)),
    }


def _own(path: Path, tensors: dict[str, Tensor], given: Settings) -> dict[str, Tensor]:
    del given
    return _only(path, tensors, {name: name for name in ("encoder", "bias", "decoder", "centre", "threshold")})


def _w_enc(path: Path, tensors: dict[str, Tensor], given: Settings) -> dict[str, Tensor]:
    if "log_threshold" in tensors:
        tensors["threshold"] = tensors.pop("log_threshold").exp()
    names = {"W_enc": "encoder", "b_enc": "bias", "W_dec": "decoder", "b_dec": "centre", "threshold": "threshold"}
    parts = _only(path, tensors, names)
    parts["encoder"] = parts["encoder"].T
    if given.get("decoder_norm") and "decoder" in parts:
        norms = parts["decoder"].norm(dim=1)
        parts |= {"encoder": parts["encoder"] * norms[:, None], "bias": parts["bias"] * norms}
    if not given.get("centred", True):
        parts.pop("centre", None)
    return parts


def _simple(path: Path, tensors: dict[str, Tensor], given: Settings) -> dict[str, Tensor]:
    del given
    tensors.pop("decoder.bias", None)  # added to the reconstruction alone
    names = {"encoder.weight": "encoder", "encoder.bias": "bias", "decoder.weight": "decoder"}
    return _only(path, _thresholds(tensors, len(tensors["encoder.weight"])), names | {"threshold": "threshold"})


def _overcomplete(path: Path, tensors: dict[str, Tensor], given: Settings) -> dict[str, Tensor]:
    del given
    block = "encoder.final_block"
    if "thresholds" in tensors:  # it stores their logarithms
        tensors["thresholds"] = tensors["thresholds"].exp()
    norm = {part: tensors.pop(f"{block}.1.{part}", None) for part in ("weight", "bias", "running_mean", "running_var")}
    tensors.pop("dictionary.multiplier", None)  # scales the reconstruction alone
    names = {f"{block}.0.weight": "encoder", f"{block}.0.bias": "bias", "dictionary._weights": "decoder"}
    parts = _only(path, _thresholds(tensors, len(tensors[f"{block}.0.weight"])), names | {"threshold": "threshold"})
    mean, variance = norm["running_mean"], norm["running_var"]
    if mean is not None and variance is not None:  # batch normalisation, folded into the linear map before it
        gain = (variance + 1e-5).rsqrt() * (1 if norm["weight"] is None else norm["weight"])
        parts["encoder"] = parts["encoder"] * gain[:, None]
        parts["bias"] = (parts["bias"] - mean) * gain + (0 if norm["bias"] is None else norm["bias"])
    return parts


def _thresholds(tensors: dict[str, Tensor], units: int) -> dict[str, Tensor]:
    """The tensors with any threshold under one name, one value for each latent."""
    for name in ("jump_thresholds", "thresholds", "_running_threshold", "running_threshold"):
        if name in tensors:
            tensors["threshold"] = tensors.pop(name).reshape(-1)
    if "threshold" in tensors and tensors["threshold"].numel() == 1:
        tensors["threshold"] = tensors["threshold"].reshape(1).expand(units)
    return tensors


def _directions(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """One matrix [directions, width], under any name, and perhaps a bias."""
    matrices = [name for name, tensor in tensors.items() if tensor.ndim == 2]
    if len(matrices) != 1 or not tensors[matrices[0]].numel():
        raise UserError(
            f"{path} must hold one matrix [directions, width] for --directions, and at most a bias, but it holds "
            f"{_listed(tensors)}."
        )
    bias = {name: "bias" for name in tensors if name != matrices[0]}
    parts = _only(path, tensors, {matrices[0]: "encoder", **bias} if len(bias) < 2 else {matrices[0]: "encoder"})
    return {"bias": torch.zeros(len(parts["encoder"])), "decoder": parts["encoder"], **parts}


def _only(path: Path, tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors under CLEAR's names; no other may be there, and encoder and bias must be."""
    unknown = [name for name in tensors if name not in names]
    if unknown:
        raise UserError(
            f"{path} holds {_listed(unknown)} beside {_listed(names)}: an encoder that CLEAR does not know (it knows "
            "one linear map and an activation)."
        )
    missing = [theirs for theirs, own in names.items() if own in ("encoder", "bias") and theirs not in tensors]
    if missing:
        raise UserError(f"{path} lacks {_listed(missing)}; restore the file.")
    flat = [theirs for theirs, own in names.items() if own in ("encoder", "decoder")]
    wrong = next((name for name in flat if name in tensors and tensors[name].ndim != 2), None)
    if wrong is not None:
        raise UserError(f"In {path} {wrong} is {list(tensors[wrong].shape)}, not a matrix; restore the file.")
    return {own: tensors[theirs] for theirs, own in names.items() if theirs in tensors}


def _listed(names: Any) -> str:
    """The first names, as text."""
    shown = [str(name)[:60] for name in names]
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "") if shown else "nothing"


_FORMATS: Final[Mapping[str, Callable[[Path, dict[str, Tensor], Settings], dict[str, Tensor]]]] = {
    "encoder": _own,
    "W_enc": _w_enc,
    "encoder.final_block.0.weight": _overcomplete,
    "encoder.weight": _simple,
}
"""A name that only this format has → how it is read."""
