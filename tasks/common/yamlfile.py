"""Safe reading of YAML files; every mistake is explained in a sentence."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from tasks.common.errors import UserError
from tasks.common.files import read_bounded
from tasks.common.text import valid

_LIMIT = 1_000_000
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Safe loading that refuses duplicate keys, of which YAML would silently take the last, and merge keys.

    A merge key would let a field come from somewhere else in the file without a word at its place, and a small file of
    nested ones grows without bound; YAML 1.2 has none. So does a small file of nested shared values, and is refused.
    """

    def get_single_node(self) -> yaml.Node | None:
        """The document before anything is made of it."""
        node = super().get_single_node()
        if node is not None and _size(node, {}) > _LIMIT:
            raise _mistake(node, "values shared by *name make it larger than a definition needs, or hold themselves")
        return node


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Letters and nodes of a document with what is shared counted wherever it stands."""
    if id(node) not in sizes:
        sizes[id(node)] = _LIMIT + 1  # that of a node that holds itself
        if isinstance(node, yaml.MappingNode):
            inside = sum(_size(part, sizes) for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            inside = sum(_size(part, sizes) for part in node.value)
        else:
            inside = len(node.value)
        sizes[id(node)] = 1 + inside
    return sizes[id(node)]


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[Hashable] = set()
    for key_node, _ in node.value:
        if key_node.tag == _MERGE:
            raise _mistake(key_node, "merge keys ('<<') are not read; write the fields out, or share a value by *name")
        if not isinstance(key_node, yaml.ScalarNode):
            raise _mistake(key_node, "a key is a list or a mapping")
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise _mistake(key_node, f"key '{key_node.value[:60]}' is given twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return valid(loader.construct_scalar(node))


def _mistake(node: yaml.Node, what: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, f"{what} (line {node.start_mark.line + 1})")


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG, _text)


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a YAML file that holds one mapping; no YAML tag runs code.

    Raises:
        UserError: The file is missing, unreadable, larger than 1 MB (what is shared counted wherever it stands), not
            YAML, has a key twice or a merge key (``<<``), or is no mapping.
    """
    path = Path(path)
    try:
        text = read_bounded(path, _LIMIT).decode("utf-8")
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a UTF-8 text file ({error.reason} at byte {error.start}).") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - the loader is a SafeLoader
    # ValueError: dates that are none, whole numbers of thousands of digits.
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid YAML: {_reason(error)}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold 'field: value' lines, but holds {type(content).__name__}.")
    return content


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem:
        mark = error.problem_mark
        return error.problem + (f" (line {mark.line + 1})" if mark is not None else "")
    return str(error)[:200].replace("\n", " ").rstrip(".") or type(error).__name__
