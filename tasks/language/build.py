"""Builds a summariser or a vision-language describer from a profile's entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.cache.keys import device_kind, package_versions
from tasks.cache.store import Cache
from tasks.language.broker import Ask, BrokeredChat
from tasks.language.chat import ChatModel, Message, Reply
from tasks.language.client import OpenAIChat
from tasks.language.config import (
    OpenAISource,
    TransformersSource,
    VisionOpenAISource,
    VisionTransformersSource,
)
from tasks.language.replies import CachedChat, ReplyStore
from tasks.language.summariser import LanguageModelSummariser

if TYPE_CHECKING:
    import torch

    from tasks.language.describer import VisionLanguageDescriber


def build_summariser(
    source: OpenAISource | TransformersSource,
    device: torch.device,
    *,
    replies: Path | None = None,
    tier: Path | None = None,
    offline: bool = False,
    shared: Cache | None = None,
    ask: Ask | None = None,
) -> LanguageModelSummariser:
    """The summariser of a profile's entry; every reply is stored.

    A model on a server is not queried yet, but its key is looked up, so that a run stops before it loads anything
    large.

    Args:
        source: The entry; a relative ``path`` must already be resolved.
        device: Where a model in this process runs.
        replies: SQLite file of the replies and requests; None keeps them in memory. The price cap counts the requests
            in this file, so a file in the run's folder makes it a cap on the run, resumed or not.
        tier: Where several hosts use its folder; see ``ReplyStore``.
        offline: Open no socket; replies stored in the file are still returned.
        shared: Where replies are also stored for other runs.
        ask: Asks a model on a server in place of this process, which then needs no key and stores nothing of it.

    Raises:
        UserError: No key, package or model, a wrong hash, an unknown price with a cap, or an unusable file.
    """
    if ask is not None and isinstance(source, OpenAISource):
        brokered = BrokeredChat("summariser", source.model, ask)
        return LanguageModelSummariser(brokered, source.mode, source.temperature, source.max_tokens)
    store = ReplyStore(replies or ":memory:", tier)
    model = CachedChat(_model(source, device, store, offline), store, shared, _served(source, device))
    return LanguageModelSummariser(model, source.mode, source.temperature, source.max_tokens)


def build_describer(
    source: VisionOpenAISource | VisionTransformersSource,
    device: torch.device,
    *,
    replies: Path | None = None,
    tier: Path | None = None,
    offline: bool = False,
    shared: Cache | None = None,
    ask: Ask | None = None,
) -> VisionLanguageDescriber:
    """The vision-language describer of a profile's entry, with every reply stored; see ``build_summariser``.

    The model is created on first use: few methods need it, and runs of the others must not wait for it or need its key.
    Whatever ``build_summariser`` would raise is raised by the first request.

    Raises:
        UserError: The file of replies is unusable.
    """
    from tasks.language.describer import VisionLanguageDescriber

    options = (source.mode, source.temperature, source.max_tokens, source.picture_px)
    if ask is not None and isinstance(source, OpenAISource):
        return VisionLanguageDescriber(BrokeredChat("describer", source.model, ask), *options)
    store = ReplyStore(replies or ":memory:", tier)
    later = _LaterChat(lambda: _model(source, device, store, offline))
    model = CachedChat(later, store, shared, _served(source, device))
    return VisionLanguageDescriber(model, *options)


class _LaterChat:
    """A chat model that is created on first use."""

    def __init__(self, make: Callable[[], ChatModel]) -> None:
        self._made = cache(make)

    @property
    def identity(self) -> str:
        return self._made().identity

    def chat(self, messages: Sequence[Message], *, temperature: float, max_tokens: int, seed: int) -> Reply:
        return self._made().chat(messages, temperature=temperature, max_tokens=max_tokens, seed=seed)


def _served(source: OpenAISource | TransformersSource, device: torch.device) -> dict[str, Any]:
    if isinstance(source, OpenAISource):
        return {"server": source.base_url}
    packages = package_versions(("transformers", "tokenizers"))
    return {"dtype": source.dtype, "device": device_kind(device), "packages": packages}


def _model(
    source: OpenAISource | TransformersSource, device: torch.device, store: ReplyStore, offline: bool
) -> ChatModel:
    if isinstance(source, OpenAISource):
        client = OpenAIChat(source, store, offline=offline)
        if not offline:
            client.check()
        return client
    from tasks.language.local import TransformersChat, TransformersVisionChat
    from tasks.models.weights import check_file

    chat = TransformersVisionChat if isinstance(source, VisionTransformersSource) else TransformersChat
    if source.path is not None:
        check_file(source.path / source.weights, source.sha256)
        return chat(source.path, device, dtype=source.dtype)
    return chat(source.name or "", device, dtype=source.dtype, revision=source.revision, offline=offline)
