"""Networks and models that a user's own function returns."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from jaxtyping import UInt8
from torch import Tensor

from tasks.common.errors import UserError, unknown_name
from tasks.profiles.sources import FactorySource
from tasks.roles import (
    Captioner,
    ImageGenerator,
    ImageTextEncoder,
    PictureDescriber,
    Segmenter,
    SentenceEncoder,
    Summariser,
)

_ROLES: Final = {
    "clip": ImageTextEncoder,
    "simulator": ImageTextEncoder,
    "sentence_encoder": SentenceEncoder,
    "captioner": Captioner,
    "summariser": Summariser,
    "describer": PictureDescriber,
    "generator": ImageGenerator,
    "segmenter": Segmenter,
}


def returned(factory: str, arguments: Mapping[str, Any]) -> Any:
    """What a user's function returns.

    Args:
        factory: ``package.module:function``.
        arguments: Its keyword arguments.

    Raises:
        UserError: It cannot be imported, or it fails.
    """
    module_name, _, function = factory.partition(":")
    try:
        module = importlib.import_module(module_name)
    # Whatever the user's code does when it is imported or called, sys.exit() too, is a fault of that code.
    except (Exception, SystemExit) as error:
        raise UserError(
            f"The module {module_name!r} of {factory} cannot be imported ({_told(error)}); run from its folder, or "
            "install it."
        ) from error
    found = getattr(module, function, None)
    if not callable(found):
        raise unknown_name(f"function of {module_name}", function, (n for n in vars(module) if not n.startswith("_")))
    try:
        return found(**arguments)
    except (Exception, SystemExit) as error:
        given = f"with {', '.join(arguments)}" if arguments else "without arguments"
        raise UserError(f"{factory}, called {given}, fails ({_told(error)}); correct it or its arguments.") from error


def role_from(role: str, entry: FactorySource) -> Any:
    """A model of a user's own for a role of the profile.

    Args:
        role: Its field in the profile.

    Raises:
        UserError: The function cannot be imported or fails, or what it returns lacks a method or attribute of the role.
    """
    made = returned(entry.factory, entry.kwargs)
    methods = [name for name in vars(_ROLES[role]) if not name.startswith("_")]
    lacking = [name for name in methods if not callable(getattr(made, name, None))]
    lacking += [name for name in _ROLES[role].__annotations__ if not hasattr(made, name)]
    if lacking:
        raise UserError(
            f"{entry.factory} returns a {type(made).__name__}, which lacks {' and '.join(lacking)}: as the profile's "
            f"{role} it needs what {_ROLES[role].__name__} in tasks/roles.py has."
        )
    return _FromTheStart(made) if role == "generator" and not _takes_first(made.generate) else made


@dataclass(frozen=True)
class _FromTheStart:
    """A generator that cannot begin at a later image, and draws the earlier ones again."""

    generator: Any

    def generate(
        self, concept: str, count: int, seed: int, template: str = "{concept}", first: int = 0
    ) -> UInt8[Tensor, "count 3 h w"]:
        return self.generator.generate(concept, first + count, seed, template)[first:]


def _takes_first(generate: Any) -> bool:
    try:
        parameters = inspect.signature(generate).parameters.values()
    except ValueError:  # code without a signature
        return False
    return any(one.name == "first" or one.kind is one.VAR_KEYWORD for one in parameters)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
