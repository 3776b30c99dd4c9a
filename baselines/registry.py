"""The labelling methods by name; none is imported until it is loaded."""

from __future__ import annotations

import importlib
import inspect
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tasks.common.errors import UserError, unknown_name
from tasks.common.plugins import check_name, package_of, plugins

if TYPE_CHECKING:
    from baselines.base import Method

ENTRY_POINT_GROUP = "clear.methods"
NEEDS = (
    "captioner",
    "clip",
    "concepts",
    "describer",
    "generator",
    "maps",
    "presence",
    "proposer",
    "segmentation",
    "summariser",
)
"""What a method can need: parts of ``tasks.observation``'s Toolbox and Observation that a profile or task may lack."""

ANNOTATION = frozenset({"presence", "segmentation"})
"""Those that say what the probing images show: a method with them knows what others must find out."""


@dataclass(frozen=True)
class MethodEntry:
    """Facts about a method before it is loaded.

    Attributes:
        needs: The roles and parts of the observation that it requires, sorted.
        version: Raised whenever the same input may give a different label.
        target: ``"module:object"`` of its class.
        package: The distribution that provides it; empty for the built-in methods.
        default: Whether a run uses it by default.
    """

    name: str
    summary: str
    needs: tuple[str, ...]
    version: str
    target: str
    package: str = ""
    default: bool = True


_BUILT_IN = {
    entry.name: entry
    for entry in (
        MethodEntry(
            "clip_dissect",
            "CLIP-Dissect: the concept whose CLIP similarity follows the unit's activations",
            ("clip", "concepts"),
            "2",
            "baselines.clip_dissect.method:ClipDissect",
        ),
        MethodEntry(
            "network_dissection",
            "Network Dissection: the annotated concept that overlaps the unit's most active regions",
            ("maps", "segmentation"),
            "1",
            "baselines.network_dissection:NetworkDissection",
        ),
        MethodEntry(
            "dnd",
            "Describe-and-Dissect: captions of the top images and crops, summarised and tested on generated images",
            ("captioner", "clip", "generator", "summariser"),
            "2",
            "baselines.dnd.method:DescribeAndDissect",
        ),
        MethodEntry(
            "dnd_refined",
            "Describe-and-Dissect with a bounded refinement loop over the generated images",
            ("captioner", "clip", "generator", "summariser"),
            "2",
            "baselines.dnd.refined:RefinedDescribeAndDissect",
            default=False,  # not a published method
        ),
        MethodEntry(
            "dnd_vision",
            "Describe-and-Dissect without captions: a vision-language model names what the images have in common",
            ("clip", "describer", "generator"),
            "2",
            "baselines.dnd.vision:VisionDescribeAndDissect",
            default=False,  # needs a role that most profiles leave out
        ),
        MethodEntry(
            "clear",
            "CLEAR: similarities, contrast and captions shortlist concepts, and a few drawn images choose",
            ("captioner", "clip", "concepts", "generator"),
            "3",
            "baselines.clear.method:Clear",
            default=False,  # not a published method
        ),
        MethodEntry(
            "semantic_lens",
            "SemanticLens: the concept nearest to the mean CLIP embedding of the unit's top images",
            ("clip", "concepts"),
            "1",
            "baselines.semantic_lens:SemanticLens",
            default=False,  # a run's time is for the methods whose results are committed
        ),
        MethodEntry(
            "csp",
            "Contrastive Semantic Projection: SemanticLens without what similar, inactive images share",
            ("clip", "concepts"),
            "1",
            "baselines.semantic_lens:Csp",
            default=False,
        ),
        MethodEntry(
            "linear",
            "Linear Explanations: a weighted sum of at most ten concepts that predicts the unit's activation",
            ("presence",),
            "1",
            "baselines.linear:LinearExplanation",
            default=False,
        ),
        MethodEntry(
            "invert",
            "INVERT: the formula of annotated concepts, with AND, OR and NOT, that the activation tells best",
            ("presence",),
            "1",
            "baselines.invert:Invert",
            default=False,
        ),
        MethodEntry(
            "line",
            "After LINE: a closed loop of proposed concepts, generated images and measured activations",
            ("clip", "concepts", "generator", "proposer"),
            "1",
            "baselines.line:Line",
            default=False,
        ),
        MethodEntry(
            "random_label",
            "Trivial baseline: a concept drawn at random for each unit and condition",
            ("concepts",),
            "1",
            "baselines.trivial:RandomLabel",
        ),
        MethodEntry(
            "constant_label",
            'Trivial baseline: the word "depiction" for every unit',
            (),
            "1",
            "baselines.trivial:ConstantLabel",
        ),
    )
}


_WRAPPERS = {
    wrapper: MethodEntry(wrapper, summary, (), version, target, default=False)
    for wrapper, summary, version, target in (
        (
            "several",
            "Several labels per unit: one for each cluster of its top images, by any METHOD",
            "1",
            "baselines.several:Several",
        ),
        (
            "set_of",
            "Label sets: the smallest set of the labels that resampled probing sets give, by any METHOD",
            "1",
            "baselines.set_of:SetOf",
        ),
    )
}
"""Methods around any other, named ``WRAPPER(METHOD)``."""

_WRAPPED = re.compile(rf"({'|'.join(_WRAPPERS)})\((.+)\)")


def names() -> tuple[str, ...]:
    """The built-in methods, in the order of the tables."""
    return tuple(_BUILT_IN)


def wrappers() -> tuple[MethodEntry, ...]:
    """The wrappers, named ``WRAPPER(METHOD)``; their needs are those of the method inside."""
    return tuple(replace(one, name=f"{one.name}(METHOD)") for one in _WRAPPERS.values())


def innermost(name: str) -> str:
    """The method inside all wrappers; a plain method's own name.

    Example:
        >>> innermost("set_of(csp)"), innermost("csp")
        ('csp', 'csp')
    """
    while wrapped := _WRAPPED.fullmatch(name):
        name = wrapped[2]
    return name


def default_names() -> tuple[str, ...]:
    """The methods that a run uses by default."""
    return tuple(entry.name for entry in _BUILT_IN.values() if entry.default)


def entries() -> tuple[MethodEntry, ...]:
    """Every method, installed plugins included (which imports them); a broken plugin is a warning that names it."""
    return (*_BUILT_IN.values(), *(entry for entry, _ in _added().values()))


def entry(name: str) -> MethodEntry:
    """Facts about one method; plugins are imported only if no built-in method has the name.

    Raises:
        UserError: Unknown name; the message lists close matches.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if wrapped := _WRAPPED.fullmatch(name):
        outer, inner = _WRAPPERS[wrapped[1]], entry(wrapped[2])
        summary, version = outer.summary.replace("any METHOD", inner.name), f"{outer.version}+{inner.version}"
        return replace(outer, name=name, summary=summary, needs=inner.needs, version=version, package=inner.package)
    added = _added()
    if name not in added:
        raise unknown_name("method", name, (*_BUILT_IN, *added, *(one.name for one in wrappers())))
    return added[name][0]


def load(name: str, **options: Any) -> Method:
    """Import a method and construct it.

    Args:
        name: A built-in method or a plugin's, also inside a wrapper.
        options: Its constructor's arguments, e.g. ``similarity="wpmi", mode="code"``; a wrapper passes on those that it
            does not have. Text is converted to the declared type, so that command-line values work.

    Raises:
        UserError: Unknown name or option, a value outside the option's vocabulary, a missing package, or a plugin's
            method that cannot be constructed.
    """
    found = entry(name)
    if wrapped := _WRAPPED.fullmatch(name):
        return _wrapped(name, _WRAPPERS[wrapped[1]], wrapped[2], options)
    if not found.package:
        method = _built_in_class(found)
        return method(**_checked(name, method, options))
    method = _added()[name][1]
    try:
        return method(**_checked(name, method, options))
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"The method {name} of {found.package} cannot be constructed: {reason}") from error


def _wrapped(name: str, outer: MethodEntry, inner: str, options: Mapping[str, Any]) -> Method:
    """A wrapper around a method, each with its own of the options."""
    wrapper, known = _class(outer.name), _parameters(name)
    for key in options:
        if key not in known:
            raise unknown_name(f"option of {name}", key, known)
    own = _own_parameters(wrapper)
    passed = {key: value for key, value in options.items() if key not in own}
    chosen = {key: value for key, value in options.items() if key in own}
    return wrapper(load(inner, **passed), **_checked(name, wrapper, chosen))


def _parameters(name: str) -> list[str]:
    """The options of a method: a wrapper's own, and those of the method inside."""
    if wrapped := _WRAPPED.fullmatch(name):
        return [*_own_parameters(_class(wrapped[1])), *_parameters(wrapped[2])]
    return [*inspect.signature(_class(name)).parameters]


def _own_parameters(wrapper: type[Any]) -> list[str]:
    return [key for key in inspect.signature(wrapper).parameters if key != "inner"]


def _class(name: str) -> type[Any]:
    if name in _WRAPPERS:
        return _built_in_class(_WRAPPERS[name])
    return _built_in_class(_BUILT_IN[name]) if name in _BUILT_IN else _added()[name][1]


def used_parts(method: Method) -> frozenset[str]:
    """Which of ``NEEDS`` a method uses with its options, which may be fewer than it declares, or others."""
    return frozenset(getattr(method, "asks", None) or method.needs)


def _built_in_class(found: MethodEntry) -> type[Any]:
    module, _, attribute = found.target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise UserError(
            f"The method {found.name} needs the package {package}, which is not installed: pip install {package}"
        ) from error


def _checked(name: str, method: type[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options against the constructor's signature and annotations."""
    parameters = inspect.signature(method).parameters
    checked = {}
    for key, value in options.items():
        if key not in parameters:
            if not parameters:
                raise UserError(f"The method {name} has no options, so {key} cannot be set.")
            raise unknown_name(f"option of {name}", key, parameters)
        checked[key] = _converted(name, key, value, _hint(method, key))
    return checked


def _hint(method: type[Any], key: str) -> Any:
    """The declared type of an option; any where it is imported for type checkers alone (or not declared)."""
    made: Any = method.__init__
    stated = {name: kind for name, kind in getattr(made, "__annotations__", {}).items() if name == key}
    try:
        return typing.get_type_hints(SimpleNamespace(__annotations__=stated), getattr(made, "__globals__", {})).get(
            key, Any
        )
    except NameError:
        return Any


def _converted(name: str, key: str, value: Any, hint: Any) -> Any:
    choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
    if choices and value not in choices:
        raise unknown_name(f"value of {name}'s option {key}:", str(value), map(str, choices))
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise UserError(f"The option {key} of {name} cannot be {value!r}: {reason}.") from None


def register(method: type[Any]) -> type[Any]:
    """Add a method to this process, e.g. one written in a notebook; also as a decorator of its class.

    A second class of the same name replaces the first. Finished cells are known by name and version: raise the
    ``version`` of a class that may now give another label, and run it in another folder.

    Raises:
        UserError: Its name is taken or invalid, or it states no version or unknown needs.
    """
    lacking = [fact for fact in ("name", "version", "needs", "label") if not hasattr(method, fact)]
    if lacking:
        raise UserError(f"The method {method.__name__} lacks {', '.join(lacking)}; see baselines.base.Method.")
    try:
        check_name(method.name, _BUILT_IN, {name: found.package for name, (found, _) in _plugins().items()})
        described = _described(method, f"{method.__module__}:{method.__qualname__}", "this session")
    except UserError as error:
        raise UserError(f"The method {method.name!r} cannot be registered: {error}") from None
    _registered[method.name] = described
    return method


_registered: dict[str, tuple[MethodEntry, type[Any]]] = {}


def _added() -> Mapping[str, tuple[MethodEntry, type[Any]]]:
    return {**_plugins(), **_registered}


@lru_cache(maxsize=1)
def _plugins() -> Mapping[str, tuple[MethodEntry, type[Any]]]:
    """The methods of other packages; a broken one is a warning that names it."""
    return plugins("method", ENTRY_POINT_GROUP, _BUILT_IN, _read)


def _read(point: metadata.EntryPoint) -> tuple[str, tuple[MethodEntry, type[Any]]]:
    method: Any = point.load()
    if not isinstance(method, type):
        raise UserError("it is not a class")
    return method.name, _described(method, point.value, package_of(point))


def _described(method: Any, target: str, package: str) -> tuple[MethodEntry, type[Any]]:
    """A method of others with its entry, once what it states has been checked."""
    if not callable(method.label):
        raise UserError("its label is not a function")
    if isinstance(method.needs, str) or not all(isinstance(need, str) for need in method.needs):
        raise UserError("its needs are not a set of names")
    for need in sorted(method.needs):
        if need not in NEEDS:
            raise unknown_name("need", need, NEEDS)
    first_line = next(iter((inspect.getdoc(method) or "").splitlines()), "")
    summary = str(getattr(method, "summary", first_line))
    needs, version = tuple(sorted(method.needs)), str(method.version)
    return MethodEntry(method.name, summary, needs, version, target, package), method
