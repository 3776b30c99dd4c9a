"""Scores labels against reference names, always beside baselines that give every unit the same label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from benchmark.external.agreement import ends
from leaderboard.board.intervals import mean_interval
from metrics.stability import clip_similarity
from metrics.statistics import wilson_interval

if TYPE_CHECKING:
    from benchmark.core.scoring import LabelEmbeddings
    from benchmark.external.references import References
    from metrics.bertscore import BertScorer

WORD: Final = "depiction"
"""Constant label for every unit: on ImageNet's class names it beats published methods by cosine."""

OWN, MOST_FREQUENT, ONE_WORD = "own", "most_frequent", "one_word"
"""Labels that a row scores: the method's, its most frequent one for every unit, or ``WORD`` for every unit."""


def most_frequent(labels: Mapping[int, str]) -> str:
    """The most frequent label; for ties, that of the lowest unit."""
    return Counter(labels[unit] for unit in sorted(labels)).most_common(1)[0][0]


def name_scores(
    units: Mapping[str, Sequence[int]],
    labels: Mapping[str, Mapping[int, str]],
    references: References,
    embeddings: LabelEmbeddings,
    seed: int,
    bert: BertScorer | None = None,
) -> pd.DataFrame:
    """Mean scores over units of labels against reference names.

    Args:
        units: Method → the units that it was to label.
        labels: Method → unit → its label on clean images; a unit without one has a missing label.
        embeddings: Embeddings of all labels, references and ``WORD``.
        bert: Language model of BERTScore, or None.

    Returns:
        Three rows per method (``labels`` is ``own``, ``most_frequent`` or ``one_word``): ``method``, ``labels``,
        ``text`` (the constant label; absent for ``own``), ``units`` (with a reference), ``missing``, and ``clip`` and
        ``sentence`` (mean cosine of label and reference, in [-1, 1], over the units with a label), ``exact`` (share of
        units whose label is one of the names) and ``concept`` (share whose label contains one), each with ``_low`` and
        ``_high`` of its 95 % interval. A missing label is excluded from a cosine, and wrong for a share: otherwise a
        method could raise its share by leaving hard units unnamed. With ``bert`` also ``bertscore``: the mean F1,
        treated like a cosine.
    """
    rows = []
    for method, asked in units.items():
        known = [unit for unit in asked if unit in references.of_unit]
        frequent = most_frequent(labels[method])
        for kind, text in ((OWN, None), (MOST_FREQUENT, frequent), (ONE_WORD, WORD)):
            said = [labels[method].get(unit) if text is None else text for unit in known]
            head = {"method": method, "labels": kind, "text": text, "units": len(known), "missing": said.count(None)}
            rows.append(head | _means(known, said, references, embeddings, seed, bert))
    return pd.DataFrame(rows)


def _means(
    units: Sequence[int],
    said: Sequence[str | None],
    references: References,
    embeddings: LabelEmbeddings,
    seed: int,
    bert: BertScorer | None,
) -> dict[str, float]:
    truth = [references.of_unit[unit] for unit in units]
    texts = [reference.text for reference in truth]
    clip = clip_similarity(embeddings.clip(said), embeddings.clip(texts))
    sentence = np.full(len(units), np.nan)
    if embeddings.has_sentences:
        sentence = clip_similarity(embeddings.sentence(said), embeddings.sentence(texts))
    pairs = [(label, reference) for label, reference in zip(said, truth, strict=True) if label is not None]
    exact = sum(reference.exact(label) for label, reference in pairs)
    concept = sum(reference.matches(label) for label, reference in pairs)
    return {
        **ends("clip", mean_interval(clip, seed)),
        **ends("sentence", mean_interval(sentence, seed)),
        **({} if bert is None else ends("bertscore", mean_interval(bert.score(said, texts).f1, seed))),
        **ends("exact", wilson_interval(exact, len(units))),
        **ends("concept", wilson_interval(concept, len(units))),
    }
