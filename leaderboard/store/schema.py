"""The columns of a run folder's tables, one by one; ``frames`` checks every written table against them.

Tables are Parquet with page checksums. Severity 0 is ``clean``; repeats and units count from 0. Cosines are in [-1, 1].
"Absent" values are nulls in Parquet and NaN, ``None`` or ``pd.NA`` in pandas.
"""

from __future__ import annotations

from collections.abc import Iterator

from leaderboard.store.analysis_schema import (
    BOTTLENECK,
    CONCEPT_DRIFT,
    CONTEXT_ANOMALY,
    DECISIONS,
    DEPENDENCE,
    STUDIES,
)
from leaderboard.store.columns import (
    METHOD,
    PERTURBATION,
    PLACE,
    PROFILE,
    REPEAT,
    SEVERITY,
    TASK,
    UNIT,
    Column,
    TableSchema,
    share,
)

SCHEMA_VERSION = 2
"""Schema version of run folders; ``leaderboard.store.migrations`` converts older ones."""

LABELS = TableSchema(
    "labels",
    (
        *PLACE,
        Column("rank", "integer", "1 is the label, 2 and above are the runners-up.", low=1),
        Column("label", "text", "The text returned by the method, unescaped. A missing label has no row."),
        Column("score", "number", "The method's own score; absent if the method has none.", optional=True),
    ),
    ("task", "profile", "method", "perturbation", "severity", "repeat", "unit", "rank"),
)

EVIDENCE = TableSchema(
    "evidence",
    (
        TASK,
        PROFILE,
        PERTURBATION,
        SEVERITY,
        REPEAT,
        UNIT,
        Column("rank", "integer", "1 is the image that activates the unit most.", low=1),
        Column("image", "text", "Identifier of the probing image."),
        Column("activation", "number", "Pooled activation of the unit on it; absent where not finite.", optional=True),
    ),
    ("task", "profile", "perturbation", "severity", "repeat", "unit", "rank"),
)


THUMBNAILS = TableSchema(
    "thumbnails",
    (
        TASK,
        PROFILE,
        PERTURBATION,
        SEVERITY,
        REPEAT,
        Column("image", "text", "Identifier of the probing image, as in the evidence."),
        Column("webp", "bytes", "The image under this condition, at most 96 pixels per side, as a WebP file."),
    ),
    ("task", "profile", "perturbation", "severity", "repeat", "image"),
)


def _cosine(name: str, title: str, meaning: str, better: bool | None = True) -> Column:
    return Column(name, "number", meaning, True, -1.0, 1.0, better, title)


_CLIP_SIMILARITY = _cosine(
    "clip_similarity", "CLIP similarity", "CLIP text cosine of the label and the clean label; absent if one is missing."
)
_SENTENCE_SIMILARITY = _cosine(
    "sentence_similarity",
    "Sentence similarity",
    "Cosine of the label and the clean label by a sentence encoder; absent without one.",
)
_NOISE_FLOOR = _cosine(
    "noise_floor",
    "Noise floor",
    "Mean CLIP similarity of the clean repeats to clean repeat 0; absent with a single clean repeat.",
)
_CHANCE = _cosine(
    "chance", "Chance", "Mean CLIP similarity of this unit's clean label to the other units' clean labels.", None
)
_STABILITY = Column(
    "stability",
    "number",
    "(clip_similarity - chance) / (1 - chance): 1 = unchanged, 0 = as good as another unit's label, or chance is 1.",
    optional=True,
    high=1.0,
    higher_is_better=True,
    title="Stability",
)
_OVERLAP = share("evidence_overlap", "Evidence overlap", "Jaccard index of the unit's top images, clean and perturbed.")
_RANK_OVERLAP = share(
    "rank_biased_overlap", "Rank-biased overlap", "RBO (p = 0.9) of the same images in order (Webber et al. 2010)."
)
_CORRELATION = Column(
    "activation_correlation",
    "number",
    "Pearson's correlation of the unit's activations on the same images, clean and perturbed; absent if constant.",
    optional=True,
    low=-1.0,
    high=1.0,
    higher_is_better=True,
    title="Activation correlation",
)

UNIT_MEASURES = (
    _cosine(
        "clarity",
        "Clarity",
        "Mean cosine of pairs of the unit's 20 top images under this condition, in the space of CLIP.",
        None,
    ),
    _cosine(
        "redundancy",
        "Redundancy",
        "Largest cosine of the top images' mean embedding with that of another unit of the layer.",
        None,
    ),
    Column(
        "polysemanticity",
        "number",
        "1 - cosine of the centres of two clusters of the top images (k-means).",
        optional=True,
        low=0.0,
        high=2.0,
        title="Polysemanticity",
    ),
    _cosine(
        "monosemanticity",
        "Monosemanticity",
        "Mean cosine of pairs of the 16 most activating images, weighted by min-max scaled activation.",
        None,
    ),
)
"""What the images say of the unit itself, the same for all methods; absent where there is none, and in older runs."""

SCORES = TableSchema(
    "scores",
    (
        *PLACE,
        Column("clean_label", "text", "Rank-1 label on clean images, repeat 0; absent if missing.", optional=True),
        Column("label", "text", "Rank-1 label under this condition; absent if missing.", optional=True),
        _CLIP_SIMILARITY,
        _SENTENCE_SIMILARITY,
        Column(
            "exact",
            "flag",
            "Both labels are equal after normalising case, space and punctuation; absent if one is missing.",
            optional=True,
        ),
        _NOISE_FLOOR,
        _CHANCE,
        _STABILITY,
        _OVERLAP,
        _RANK_OVERLAP,
        _CORRELATION,
        *UNIT_MEASURES,
        Column("dead", "flag", "The unit is dead or constant on the clean images: shown and counted, but not scored."),
        Column("missing", "flag", "The method returned no label, clean or under this condition, for a unit not dead."),
        Column("truth", "text", "The true concept; absent if unknown.", optional=True),
        Column(
            "truth_op",
            "text",
            "How the concepts of the truth are combined: `single`, `and`, `or`; absent if unknown.",
            optional=True,
        ),
        Column("right_clean", "flag", "The clean label names the true concept; absent without truth.", optional=True),
        Column(
            "right",
            "flag",
            "The label under this condition names the true concept; absent without truth.",
            optional=True,
        ),
        Column(
            "named_both",
            "flag",
            "OR units: the labels that the method gives, of which some give several, name both concepts; absent for "
            "other truths.",
            optional=True,
        ),
        Column(
            "detector",
            "flag",
            "The method itself calls the unit a detector of its label; absent for methods that make no such statement.",
            optional=True,
        ),
    ),
    ("task", "profile", "method", "perturbation", "severity", "repeat", "unit"),
)


def _with_interval(column: Column) -> Iterator[Column]:
    base = (column.optional, column.low, column.high)
    yield Column(
        column.name,
        "number",
        f"Mean over units. {column.meaning}",
        True,
        column.low,
        column.high,
        column.higher_is_better,
        column.title,
    )
    for end, word in (("low", "Lower"), ("high", "Upper")):
        yield Column(f"{column.name}_{end}", "number", f"{word} end of its 95 % bootstrap interval.", True, *base[1:])


SUMMARISED = (
    _STABILITY,
    _CLIP_SIMILARITY,
    _SENTENCE_SIMILARITY,
    _NOISE_FLOOR,
    _CHANCE,
    _OVERLAP,
    _RANK_OVERLAP,
    _CORRELATION,
    share("exact", "Exact", "Share of units whose two labels are equal."),
    share(
        "accuracy", "Accuracy", "Share of units whose label names the truth under this condition; absent without truth."
    ),
    share(
        "accuracy_clean",
        "Accuracy, clean",
        "Share of the same units whose label names the truth on clean images; absent without truth.",
    ),
)
"""Columns of the scores, and shares of units, whose means over units are in the summary; boards show them all."""

SUMMARY = TableSchema(
    "summary",
    (
        TASK,
        PROFILE,
        METHOD,
        Column(
            "perturbation", "text", "`clean`, the perturbation's name, or `all` for the mean over all perturbations."
        ),
        Column("severity", "text", "`0` for clean, `1` to `5`, or `all` for the mean over the severities that ran."),
        Column("units", "integer", "Number of units in the means.", low=0),
        Column("dead", "integer", "Number of dead or constant units, excluded.", low=0),
        Column("missing", "integer", "Number of units without a label, excluded.", low=0),
        Column("distinct", "integer", "Number of different clean labels among these units.", low=0),
        Column("known", "integer", "Number of units with a known truth, the basis of the accuracies.", low=0),
        *(part for column in SUMMARISED for part in _with_interval(column)),
        Column(
            "p_value",
            "number",
            "Permutation test within units of clip_similarity against that of clean repeats; absent without repeats.",
            optional=True,
            low=0.0,
            high=1.0,
        ),
        Column("p_adjusted", "number", "`p_value` after Holm's correction over its family.", True, 0.0, 1.0),
    ),
    ("task", "profile", "method", "perturbation", "severity"),
)

FAITHFULNESS = TableSchema(
    "faithfulness",
    (
        *PLACE,
        Column("label", "text", "Rank-1 label under this condition. Dead units and missing labels have no row."),
        share(
            "cosy_auc",
            "CoSy AUC",
            "P(an image generated from the label activates the unit more than a clean probing image does); absent "
            "without an image generator.",
        ),
        Column(
            "cosy_mad",
            "number",
            "Mean activation on images generated from the label minus that on clean probing images, in standard "
            "deviations of the latter; absent without an image generator.",
            optional=True,
            higher_is_better=True,
            title="CoSy MAD",
        ),
        Column(
            "dma",
            "number",
            "Mean activation on images generated from the label, divided by the largest on clean probing images; "
            "absent without an image generator, and for a unit that is never above 0.",
            optional=True,
            higher_is_better=True,
            title="DMA",
        ),
        share(
            "activation_rate",
            "Activation rate",
            "Share of the images generated from the label that activate the unit more than 99 % of the clean probing "
            "images do; absent without an image generator.",
        ),
        Column(
            "presence",
            "text",
            "How the images that show the label were found: `annotation` or `clip` (see `benchmark.core.presence`).",
        ),
        share("f1", "F1", "F1 of the label's presence against the images on which the unit is active."),
        share(
            "iou",
            "IoU",
            "Intersection over union of the images that show the label and those on which the unit is active.",
        ),
        _cosine("correlation", "Correlation", "Pearson's r of activation and presence; 0 for a constant presence."),
        _cosine("cosine", "Cosine", "Cosine of activation and presence, not centred; 0 for a presence of 0."),
        share("auprc", "AUPRC", "Average precision of presence against the images on which the unit is active."),
        _cosine(
            "simulation_correlation",
            "Simulation correlation",
            "Pearson's r, on a fifth of the images, of activation and what the label predicts by the profile's second "
            "image-text encoder; 0 for a constant prediction; absent without such an encoder.",
        ),
        _cosine(
            "simulation_by_annotation",
            "Simulation by annotation",
            "Pearson's r, on a fifth of the images, of activation and what the label predicts by the images' annotated "
            "concepts; absent for a label that they do not cover.",
        ),
    ),
    ("task", "profile", "method", "perturbation", "severity", "repeat", "unit"),
)

COMPARISONS = TableSchema(
    "comparisons",
    (
        TASK,
        PROFILE,
        Column(
            "measure",
            "text",
            "What is compared: `stability`, `accuracy` (both the unit's mean over the perturbed conditions) or "
            "`accuracy_clean`.",
        ),
        Column(
            "kind",
            "text",
            "`method`: one method's mean, rank and letters; `omnibus`: all methods at once; `pair`: two methods; "
            "`condition`: one method's correct labels, clean against perturbed; `effect`: a term of the mixed model of "
            "stability over severities; `slope`: one method's change of stability per severity step.",
        ),
        Column(
            "first",
            "text",
            "The method; on clean images in `condition` rows; all methods, separated by commas, in `omnibus` rows; the "
            "term in `effect` rows.",
        ),
        Column("second", "text", "What it is compared with: a method, or a perturbation and severity.", optional=True),
        Column("floor", "flag", "A trivial baseline (random or constant labels) is among the methods of the row."),
        Column("family", "text", "Which tests were corrected together; absent for a single test.", True),
        Column("test", "text", "How the numbers were computed; absent if there are none.", optional=True),
        Column("hypothesis", "text", "The null hypothesis, in words; absent without a test.", optional=True),
        Column("n", "integer", "Number of units included.", low=0),
        Column(
            "left_out",
            "integer",
            "Number of units excluded: dead, of unknown truth, or in no condition that every method labelled.",
            low=0,
        ),
        Column("statistic", "number", "Statistic of the test; absent without one.", optional=True),
        Column("p_value", "number", "Two-sided p before correction; absent without a test.", True, 0.0, 1.0),
        Column("p_corrected", "number", "p after correction in its family; absent without a family.", True, 0.0, 1.0),
        Column("correction", "text", "Which correction, over how many tests; absent without one.", optional=True),
        Column("effect", "number", "Effect size; absent if there is none.", optional=True),
        Column("effect_name", "text", "Which effect size, with its range.", optional=True),
        Column("value_first", "number", "Mean or share of `first` over the units; absent without units.", True),
        Column("value_second", "number", "Likewise for `second`; absent if there is no second.", optional=True),
        Column(
            "difference",
            "number",
            "value_first - value_second, or the slope in `slope` rows; absent if there is none.",
            optional=True,
        ),
        Column(
            "low",
            "number",
            "Lower end of the 95 % interval of the difference, or of value_first in `method` rows; not corrected.",
            optional=True,
        ),
        Column("high", "number", "Upper end of the same interval.", optional=True),
        Column(
            "smallest_detectable",
            "number",
            "Minimum detectable mean difference at 80 % power for this number of units and the observed spread, at 5 % "
            "divided by the number of tests in the family; absent without a spread.",
            optional=True,
            low=0.0,
        ),
        Column(
            "rank",
            "number",
            "1 + the number of methods that are significantly better, so that ties share a rank; in `method` rows.",
            optional=True,
            low=1.0,
        ),
        Column(
            "letters",
            "text",
            "The method's groups: two methods share a letter if and only if they are not significantly different; in "
            "`method` rows.",
            optional=True,
        ),
        Column("reason", "text", "Why numbers are missing or unreliable; absent for an ordinary row.", optional=True),
    ),
    ("task", "profile", "measure", "kind", "first", "second"),
)

_OF_STUDIES = tuple(schema for schemas in STUDIES.values() for schema in schemas)
_OF_BOTTLENECKS = (BOTTLENECK, CONCEPT_DRIFT, CONTEXT_ANOMALY, DECISIONS)
_OF_CELLS = (LABELS, EVIDENCE, SCORES, SUMMARY, COMPARISONS)
_BESIDE = (THUMBNAILS, FAITHFULNESS, DEPENDENCE, *_OF_STUDIES, *_OF_BOTTLENECKS)

TABLES = {schema.name: schema for schema in (*_OF_CELLS, *_BESIDE)}

LATER_TABLES = frozenset(schema.name for schema in _BESIDE)
"""Tables that a finished run may lack: they were not requested, or were introduced later."""
