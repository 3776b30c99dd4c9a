"""Published numbers that follow from the label files that the authors released."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Final

import numpy as np

from benchmark.external.files.csv_table import read_table
from benchmark.external.files.network_dissection import DETECTOR
from benchmark.external.files.read import read_labels
from benchmark.external.files.rows import number
from benchmark.external.published.target import Missing, Target
from benchmark.external.references import References, read_references
from benchmark.external.score import bert_scorer
from metrics.stability import clip_similarity
from tasks.common.errors import UserError
from tasks.profiles.build import Roles
from tasks.profiles.resolve import absent, resolve
from tasks.profiles.sources import ClipSource, SentenceSource

_CLASSES: Final = "imagenet_labels.txt"
_RATERS: Final = ("E1", "E2")
_SCORINGS: Final = {
    "DnD scoring Mean": "Mean Caption",
    "DnD scoring TopK-Squared": "Topk-Sq",
    "DnD scoring Image-Products": "Image-Products",
    "DnD scoring TopK-Compare": "Topk-Compare",
}
"""Method → its columns in the table of ratings."""


class Released:
    """A folder of released label files.

    A file is found by its path in its repository: as a folder tree, or as one name with ``_`` for ``/``
    (``NetDissect_results_resnet50_imagenet_fc.csv``). The beginning of that path may be missing, but not the folder
    that holds the file, since several methods' files have the same name.
    """

    def __init__(self, folder: Path | None, references: Path | None = None) -> None:
        if folder is not None and not folder.is_dir():
            raise UserError(f"--labels takes a folder of released label files, and {folder} is none.")
        self.folder = folder
        self._references = references

    @cached_property
    def _files(self) -> Mapping[str, Path]:
        """Path below the folder, with ``_`` for ``/`` → file; of several the first in alphabetical order."""
        if self.folder is None:
            return {}
        found: dict[str, Path] = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                found.setdefault(_flat(path.relative_to(self.folder).as_posix()), path)
        return found

    def find(self, target: Target) -> Path:
        """The file of a row.

        Raises:
            Missing: It is not in the folder, or no folder was given.
        """
        if self.folder is None:
            raise Missing("its released file: give the folder that holds it with --labels")
        parts = target.path.split("/")
        for start in range(len(parts) - 1):
            wanted = _flat("/".join(parts[start:]))
            for name, path in self._files.items():
                if name == wanted or name.endswith(f"_{wanted}"):
                    return path
        raise Missing(f"its released file, which is not in {self.folder}")

    @cached_property
    def references(self) -> References:
        """Class names.

        Raises:
            Missing: There is no list of them.
        """
        path = self._references or (self._files.get(_CLASSES) if self.folder else None)
        if path is None:
            raise Missing(f"the class names, {_CLASSES} of Describe-and-Dissect: give the file with --references")
        return read_references(path)


class Encoders:
    """The text encoders that were given.

    Args:
        roles: Of a profile, or None.
        bertscore: Folder of roberta-large, or None.
        device: Where roberta-large runs.
    """

    def __init__(self, roles: Roles | None, bertscore: Path | None, bert_layer: int, device: str) -> None:
        self._roles = roles
        self._bertscore, self._bert_layer, self._device = bertscore, bert_layer, device
        self.bert = cache(self._bert)

    def clip(self, texts: list[str]) -> np.ndarray:
        """Embeddings by CLIP ViT-B/16, [texts, d].

        Raises:
            Missing: No profile has it, or it is not on this machine.
        """
        roles = self._usable("clip", "CLIP ViT-B/16 (openai)", is_vit_b_16)
        return roles.clip.encode_text(texts).numpy()

    def sentence(self, texts: list[str]) -> np.ndarray:
        """Embeddings by all-mpnet-base-v2, [texts, d].

        Raises:
            Missing: No profile has it, or it is not on this machine.
        """
        encoder = self._usable("sentence_encoder", "all-mpnet-base-v2", _is_mpnet).sentence_encoder
        if encoder is None:
            raise Missing("all-mpnet-base-v2")
        return encoder.encode(texts)

    def _bert(self) -> Callable[[list[str], list[str]], np.ndarray]:
        if self._bertscore is None:
            raise Missing("roberta-large: give its folder with --bertscore")
        scorer = bert_scorer(self._bertscore, self._bert_layer)(self._device)
        return lambda labels, references: scorer.score(labels, references).f1

    def _usable(self, role: str, name: str, fits: Callable[[object], bool]) -> Roles:
        if self._roles is None:
            raise Missing(f"{name}: give a profile that has it, such as --profile paper")
        profile = self._roles.profile
        if not fits(getattr(profile, role)):
            raise Missing(f"{name}: the profile {profile.name} has another model for it")
        lacking = absent(resolve(profile, (), (), (), (role,)))
        if lacking:
            raise Missing(f"{name}, which is not on this machine; to get it: {lacking[0].get}")
        return self._roles


def from_label_file(target: Target, released: Released, encoders: Encoders) -> float:
    """The number of a row.

    Raises:
        Missing: The file, the class names or a text encoder.
        UserError: A file cannot be read, or lacks a column.
    """
    if target.quantity.startswith("BERTScore F1 roberta-large, rescaled"):
        raise Missing("the rescaling baseline of roberta-large and the single class names, which the source lacks")
    path = released.find(target)
    if target.quantity.startswith("mean of column "):
        return _mean(path, target.quantity.removeprefix("mean of column "))
    if target.quantity == "mean of its own AUC (column metric)":
        return _mean(path, "metric")
    if target.quantity.startswith("mean of two raters"):
        return float(np.mean([_mean(path, f"{_SCORINGS[target.method]} {rater} Rating") for rater in _RATERS]))
    if target.quantity.endswith(f"score > {DETECTOR}"):
        table = read_table(path)
        detected = zip(table.column("label"), table.column("score"), strict=True)
        labels = [label for label, score in detected if number(score) > DETECTOR]
        return float(len(set(labels) if target.quantity.startswith("distinct") else labels))
    frame = read_labels(path).frame
    own = frame.loc[(frame["rank"].eq(1) & (frame["layer"].isna() | frame["layer"].eq(target.layer))).to_numpy()]
    said = own.loc[own["label"].notna().to_numpy()].set_index("unit")["label"]
    known = released.references.of_unit
    labels = [str(label) for unit, label in said.items() if unit in known]
    texts = [known[unit].text for unit in said.index if unit in known]
    if target.quantity.startswith("mean CLIP ViT-B/16 text cosine"):
        return _mean_cosine(encoders.clip, labels, texts)
    if target.quantity.startswith("mean all-mpnet-base-v2 cosine"):
        return _mean_cosine(encoders.sentence, labels, texts)
    return float(np.nanmean(encoders.bert()(labels, texts)))


def _flat(path: str) -> str:
    return path.replace("/", "_")


def _mean(path: Path, column: str) -> float:
    table = read_table(path)
    if column not in table.header:
        raise UserError(f"{path} has no column {column!r}; take the file as its authors released it.")
    values = [number(text) for text in table.column(column)]
    return float(np.mean([value for value in values if not math.isnan(value)]))


def _mean_cosine(encode: Callable[[list[str]], np.ndarray], labels: list[str], texts: list[str]) -> float:
    return float(np.mean(clip_similarity(encode(labels), encode(texts))))


def is_vit_b_16(source: object) -> bool:
    """Whether a profile's CLIP is the one that these numbers were published with."""
    return isinstance(source, ClipSource) and source.name == "ViT-B-16" and source.pretrained in ("openai", None)


def _is_mpnet(source: object) -> bool:
    return isinstance(source, SentenceSource) and str(source.name or source.path).endswith("all-mpnet-base-v2")
