"""A large concept set is embedded where its progress is shown, once, and methods find it in the cache."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from baselines import registry
from benchmark.core.display import Display
from benchmark.core.label_concepts import embed_concepts
from leaderboard.store.run_folder import CellKey
from tasks.cache.roles import CachedEncoder
from tasks.cache.store import Cache

LARGE = tuple(f"concept {number}" for number in range(1100))
METHODS = {"clip_dissect": registry.load("clip_dissect"), "random_label": registry.load("random_label")}


class Lengths:
    """Embeds a text by its length, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        self.asked += texts
        return torch.tensor([[float(len(text))] for text in texts])


def embedded(cache: Cache, method: str, concepts: tuple[str, ...]) -> tuple[Lengths, CachedEncoder, str]:
    plain, stream = Lengths(), io.StringIO()
    clip = CachedEncoder(plain, {"name": "lengths"}, cache)  # type: ignore[arg-type]
    roles = SimpleNamespace(clip=clip, clip_identity=clip.identity if cache.keeps else None)
    left = [CellKey("one", "mine", method, "clean", 0, 0), CellKey("two", "mine", method, "clean", 0, 0)]
    sets = {"one": concepts, "two": concepts, "three": ("never used",)}
    embed_concepts(sets, left, METHODS, roles, Display("plain", stream))  # type: ignore[arg-type]
    return plain, clip, stream.getvalue()


def test_a_large_set_is_embedded_once_with_progress(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    plain, clip, said = embedded(cache, "clip_dissect", LARGE)
    assert plain.asked == list(LARGE)
    assert "concepts: begins, 1100 concepts" in said
    assert "concepts: done, 1100 concepts" in said
    clip.encode_text(LARGE)
    again, _, _ = embedded(cache, "clip_dissect", LARGE)
    assert len(plain.asked) == 1100
    assert not again.asked


@pytest.mark.parametrize(("method", "count"), [("random_label", 1100), ("clip_dissect", 512)])
def test_what_no_method_compares_and_small_sets_are_left_to_the_methods(
    tmp_path: Path, method: str, count: int
) -> None:
    plain, _, said = embedded(Cache(tmp_path), method, LARGE[:count])
    assert (plain.asked, said) == ([], "")


def test_without_a_cache_it_says_so_and_computes_nothing_twice() -> None:
    plain, _, said = embedded(Cache(None), "clip_dissect", LARGE)
    assert not plain.asked
    assert "Embedding 1100 concepts, without progress, because no cache keeps them." in said
