"""The columns of a run folder's tables, one by one; ``leaderboard.frames`` checks every written table against them.

Tables are Parquet with page checksums. Severity 0 is ``clean``; repeats and units count from 0. Cosines are in [-1, 1].
"Absent" values are nulls in Parquet and NaN, ``None`` or ``pd.NA`` in pandas.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 2
"""Of run folders; ``leaderboard.migrations`` reads older ones."""

Kind = Literal["text", "integer", "number", "flag", "bytes"]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: Name in Parquet and pandas.
        kind: ``text``, ``integer``, ``number`` (float64), ``flag`` (true or false) or ``bytes``.
        meaning: What it holds; for optional columns also when it is absent.
        optional: Whether a value may be absent.
        low: Least value, where there is one.
        high: Greatest value, where there is one.
        higher_is_better: Read by tables, plots and pages for their arrows; ``None`` where it has no better side.
        title: Short heading for tables.
    """

    name: str
    kind: Kind
    meaning: str
    optional: bool = False
    low: float | None = None
    high: float | None = None
    higher_is_better: bool | None = None
    title: str = ""


@dataclass(frozen=True)
class TableSchema:
    """A table: its columns in order, and the columns that together name one row."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(column for column in self.columns if column.name == name)


_TASK = Column("task", "text", "Name of the task.")
_PROFILE = Column("profile", "text", "Name of the profile: which checkpoints and data stood behind the names.")
_METHOD = Column("method", "text", "Registered name of the labelling method.")
_PERTURBATION = Column("perturbation", "text", "`clean` or the perturbation's name.")
_SEVERITY = Column("severity", "integer", "0 for clean, else 1 (weak) to 5 (strong).", low=0, high=5)
_REPEAT = Column("repeat", "integer", "Number of the repeat; repeats differ in their seed only.", low=0)
_UNIT = Column("unit", "integer", "Number of the unit in its layer.", low=0)
_PLACE = (_TASK, _PROFILE, _METHOD, _PERTURBATION, _SEVERITY, _REPEAT, _UNIT)

LABELS = TableSchema(
    "labels",
    (
        *_PLACE,
        Column("rank", "integer", "1 is the label, 2 and on are the runners-up.", low=1),
        Column("label", "text", "The text as the method gave it, unescaped. A missing label has no row."),
        Column("score", "number", "The method's own score; absent where the method has none.", optional=True),
    ),
    ("task", "profile", "method", "perturbation", "severity", "repeat", "unit", "rank"),
)

EVIDENCE = TableSchema(
    "evidence",
    (
        _TASK,
        _PROFILE,
        _PERTURBATION,
        _SEVERITY,
        _REPEAT,
        _UNIT,
        Column("rank", "integer", "1 is the image that activates the unit most.", low=1),
        Column("image", "text", "Identifier of the probing image."),
        Column("activation", "number", "Pooled activation of the unit on it; absent where not finite.", optional=True),
    ),
    ("task", "profile", "perturbation", "severity", "repeat", "unit", "rank"),
)


THUMBNAILS = TableSchema(
    "thumbnails",
    (
        _TASK,
        _PROFILE,
        _PERTURBATION,
        _SEVERITY,
        _REPEAT,
        Column("image", "text", "Identifier of the probing image, as in the evidence."),
        Column("webp", "bytes", "The image under this condition, at most 96 pixels a side, as a WebP file."),
    ),
    ("task", "profile", "perturbation", "severity", "repeat", "image"),
)


def _cosine(name: str, title: str, meaning: str, better: bool | None = True) -> Column:
    return Column(name, "number", meaning, True, -1.0, 1.0, better, title)


def _share(name: str, title: str, meaning: str) -> Column:
    return Column(name, "number", meaning, True, 0.0, 1.0, True, title)


_CLIP_SIMILARITY = _cosine(
    "clip_similarity", "CLIP similarity", "CLIP text cosine of the label and the clean label; absent if one is missing."
)
_SENTENCE_SIMILARITY = _cosine(
    "sentence_similarity", "Sentence similarity", "The same by a sentence encoder; absent without one."
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
    "(clip_similarity - chance) / (1 - chance): 1 = unchanged, 0 = another unit's label does as well, or chance is 1.",
    optional=True,
    high=1.0,
    higher_is_better=True,
    title="Stability",
)
_OVERLAP = _share(
    "evidence_overlap", "Evidence overlap", "Jaccard index of the unit's top images, clean and perturbed."
)
_RANK_OVERLAP = _share(
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

SCORES = TableSchema(
    "scores",
    (
        *_PLACE,
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
        Column("dead", "flag", "The unit is dead or constant on the clean images: shown, counted, never scored."),
        Column(
            "missing", "flag", "The method gave no label, clean or under this condition, to a unit that is not dead."
        ),
        Column("truth", "text", "The true concept; absent where it is not known.", optional=True),
        Column(
            "truth_op",
            "text",
            "How the truth's concepts belong together: `single`, `and`, `or`; absent where it is not known.",
            optional=True,
        ),
        Column("right_clean", "flag", "The clean label names the true concept; absent without truth.", optional=True),
        Column("right", "flag", "The label under this condition names it; absent without truth.", optional=True),
        Column(
            "detector",
            "flag",
            "The method itself calls the unit a detector of its label; absent for methods that do not say.",
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


_SUMMARISED = (
    _STABILITY,
    _CLIP_SIMILARITY,
    _SENTENCE_SIMILARITY,
    _NOISE_FLOOR,
    _CHANCE,
    _OVERLAP,
    _RANK_OVERLAP,
    _CORRELATION,
    _share("exact", "Exact", "Share of units whose two labels are equal."),
    _share(
        "accuracy", "Accuracy", "Share of units whose label names the truth under this condition; absent without truth."
    ),
    _share("accuracy_clean", "Accuracy, clean", "The same share on clean images, over the same units."),
)

SUMMARY = TableSchema(
    "summary",
    (
        _TASK,
        _PROFILE,
        _METHOD,
        Column(
            "perturbation", "text", "`clean`, the perturbation's name, or `all` for the mean over all perturbations."
        ),
        Column("severity", "text", "`0` for clean, `1` to `5`, or `all` for the mean over the severities that ran."),
        Column("units", "integer", "Number of units that the means rest on.", low=0),
        Column("dead", "integer", "Number of dead or constant units, left out.", low=0),
        Column("missing", "integer", "Number of units without a label, left out.", low=0),
        Column("distinct", "integer", "Number of different clean labels among these units.", low=0),
        Column("known", "integer", "Number of units whose truth is known, on which the accuracies rest.", low=0),
        *(part for column in _SUMMARISED for part in _with_interval(column)),
        Column(
            "p_value",
            "number",
            "Permutation test within units of clip_similarity against that of clean repeats; absent without repeats.",
            optional=True,
            low=0.0,
            high=1.0,
        ),
        Column("p_adjusted", "number", "The same after Holm's correction over its family.", True, 0.0, 1.0),
    ),
    ("task", "profile", "method", "perturbation", "severity"),
)

FAITHFULNESS = TableSchema(
    "faithfulness",
    (
        *_PLACE,
        Column("label", "text", "Rank-1 label under this condition. Dead units and missing labels have no row."),
        _share(
            "cosy_auc",
            "CoSy AUC",
            "Chance that an image made from the label activates the unit more than a clean probing image does; absent "
            "without an image generator.",
        ),
        Column(
            "cosy_mad",
            "number",
            "Mean activation on images made from the label less that on clean probing images, in standard deviations "
            "of the latter; absent without an image generator.",
            optional=True,
            higher_is_better=True,
            title="CoSy MAD",
        ),
        Column(
            "presence",
            "text",
            "How the images that show the label were found: `annotation` or `clip` (see `benchmark.presence`).",
        ),
        _share("f1", "F1", "F1 of the label's presence for the images that the unit is active on."),
        _share("iou", "IoU", "Intersection over union of the same two sets of images."),
        _cosine(
            "correlation", "Correlation", "Pearson's r of activation and presence; 0 for a presence that is alike."
        ),
        _cosine("cosine", "Cosine", "Cosine of activation and presence, not centred; 0 for a presence of 0."),
        _share("auprc", "AUPRC", "Average precision of presence for the images that the unit is active on."),
    ),
    ("task", "profile", "method", "perturbation", "severity", "repeat", "unit"),
)

COMPARISONS = TableSchema(
    "comparisons",
    (
        _TASK,
        _PROFILE,
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
            "`condition`: one method's right labels, clean against perturbed; `effect`: a term of the mixed model of "
            "stability over severities; `slope`: one method's change of stability for one severity step.",
        ),
        Column(
            "first",
            "text",
            "The method; on clean images in `condition` rows; all methods, with commas, in `omnibus` rows; the term in "
            "`effect` rows.",
        ),
        Column("second", "text", "What it is compared with: a method, or a perturbation and severity.", optional=True),
        Column("floor", "flag", "A floor (random or constant labels) is among the methods of the row."),
        Column("family", "text", "Which tests were corrected together; absent where the test stands alone.", True),
        Column("test", "text", "How the numbers were found; absent where there are none.", optional=True),
        Column("hypothesis", "text", "The null hypothesis, in words; absent without a test.", optional=True),
        Column("n", "integer", "Number of units that entered.", low=0),
        Column(
            "left_out",
            "integer",
            "Number of units that did not enter: dead, of unknown truth, or in no condition named by every method.",
            low=0,
        ),
        Column("statistic", "number", "Statistic of the test; absent without one.", optional=True),
        Column("p_value", "number", "Two-sided p before correction; absent without a test.", True, 0.0, 1.0),
        Column("p_corrected", "number", "p after correction in its family; absent without a family.", True, 0.0, 1.0),
        Column("correction", "text", "Which correction, over how many tests; absent without one.", optional=True),
        Column("effect", "number", "Effect size; absent where there is none.", optional=True),
        Column("effect_name", "text", "Which effect size, with its range.", optional=True),
        Column("value_first", "number", "Mean or share of `first` over the units; absent without units.", True),
        Column("value_second", "number", "The same of `second`; absent where there is no second.", optional=True),
        Column(
            "difference",
            "number",
            "value_first - value_second, or the slope in `slope` rows; absent where there is none.",
            optional=True,
        ),
        Column(
            "low",
            "number",
            "Lower end of the 95 % interval of the difference, in `method` rows of value_first; not corrected.",
            optional=True,
        ),
        Column("high", "number", "Upper end of the same interval.", optional=True),
        Column(
            "smallest_detectable",
            "number",
            "The smallest mean difference that so many units show with 80 % power, given the observed spread, at 5 % "
            "divided by the number of tests in the family; absent without a spread.",
            optional=True,
            low=0.0,
        ),
        Column(
            "rank",
            "number",
            "1 + the number of methods that are better and told apart from it, so that ties share a rank; in `method` "
            "rows.",
            optional=True,
            low=1.0,
        ),
        Column(
            "letters",
            "text",
            "The method's groups: two methods have a letter in common if and only if they cannot be told apart; in "
            "`method` rows.",
            optional=True,
        ),
        Column("reason", "text", "Why numbers are missing or mean little; absent for an ordinary row.", optional=True),
    ),
    ("task", "profile", "measure", "kind", "first", "second"),
)

_FAMILY = Column("family", "text", "Family of the perturbation: `noise`, `blur`, `weather`, `digital`, `mask`.")
_IMAGES = Column("images", "integer", "Number of images, each clean and perturbed.", low=1)

SENSITIVITY = TableSchema(
    "sensitivity",
    (
        _TASK,
        _PROFILE,
        _PERTURBATION,
        _SEVERITY,
        _FAMILY,
        _UNIT,
        _IMAGES,
        Column(
            "auroc",
            "number",
            "Chance that a perturbed image activates the unit more than a clean one does, of any two images; absent "
            "for a unit that is constant on all.",
            optional=True,
            low=0.0,
            high=1.0,
            title="AUROC",
        ),
        Column(
            "paired_auroc",
            "number",
            "Share of images on which the activation rises, ties half; absent as `auroc`.",
            optional=True,
            low=0.0,
            high=1.0,
            title="Paired AUROC",
        ),
        Column(
            "effect",
            "number",
            "Cohen's d_av: mean difference by the mean standard deviation of both; absent without a deviation.",
            optional=True,
            title="Effect size",
        ),
        Column("p_value", "number", "Wilcoxon's signed-rank test; absent as `auroc`.", True, 0.0, 1.0),
        Column(
            "p_corrected",
            "number",
            "The same after Holm's correction over all units and conditions of the task.",
            True,
            0.0,
            1.0,
        ),
    ),
    ("task", "profile", "perturbation", "severity", "unit"),
)

DETECTORS = TableSchema(
    "detectors",
    (
        _TASK,
        _PROFILE,
        Column(
            "trained_on",
            "text",
            "A perturbation and severity; `all but FAMILY`; or `all`. Always on other images than it is tested on.",
        ),
        Column("selection", "text", "`best`: the most sensitive units of the training images; `random`: any units."),
        Column("count", "integer", "Number of units of the detector.", low=1),
        _FAMILY,
        Column(
            "perturbation",
            "text",
            "What it is tested on; `all` for the mean over the family's conditions, without those it was trained on "
            "unless `trained_on` is `all`.",
        ),
        Column("severity", "integer", "1 (weak) to 5 (strong); 0 where the perturbation is `all`.", low=0, high=5),
        _IMAGES,
        Column("auroc", "number", "Of its scores: the images against the same, clean.", False, 0.0, 1.0, True, "AUROC"),
        Column("low", "number", "Lower end of the 95 % bootstrap interval over images.", False, 0.0, 1.0),
        Column("high", "number", "Upper end of the same interval.", False, 0.0, 1.0),
    ),
    ("task", "profile", "trained_on", "selection", "count", "family", "perturbation", "severity"),
)

TUNING = TableSchema(
    "tuning",
    (
        _TASK,
        _PROFILE,
        Column(
            "study",
            "text",
            "`probing set`: a share of the probing images is perturbed on purpose; `network`: the network's last stage "
            "is tuned on perturbed images.",
        ),
        Column("arm", "text", "The share, from 0 to 1; or what the network was tuned on, `untuned` for nothing."),
        Column("subject", "text", "The labelling method; `network` for what the network itself recognises."),
        Column(
            "measure",
            "text",
            "Of labels `accuracy` and `stability`; of the network `auroc` (mean over concepts), `error` (share of "
            "wrong decisions at one half) and `error_ratio` (by that of the untuned network).",
        ),
        Column(
            "conditions",
            "text",
            "`clean`, a perturbation and severity, or the mean over those `tuned on` or `held out`.",
        ),
        Column("value", "number", "Mean over units, concepts or images; the ratio. Absent where there is none.", True),
        Column("low", "number", "Lower end of its 95 % bootstrap interval.", optional=True),
        Column("high", "number", "Upper end of the same interval.", optional=True),
        Column("n", "integer", "Number of units, concepts or images.", low=0),
        Column(
            "difference",
            "number",
            "From share 0 or the untuned network, pair by pair; absent for these themselves and for ratios.",
            optional=True,
        ),
        Column("difference_low", "number", "Lower end of its 95 % bootstrap interval; not corrected.", optional=True),
        Column("difference_high", "number", "Upper end of the same interval.", optional=True),
        Column("p_value", "number", "Sign-flip permutation test of the difference; of means only.", True, 0.0, 1.0),
        Column("p_corrected", "number", "The same after Holm's correction over a task's study.", True, 0.0, 1.0),
    ),
    ("task", "profile", "study", "arm", "subject", "measure", "conditions"),
)

_HEAD_CONDITION = Column(
    "perturbation",
    "text",
    "`clean`, the perturbation's name, or, where the images can be drawn anew, `other_background` (the same objects on "
    "another background of the training) or `unseen_background` (on one that it never showed).",
)
_CHANGED_IMAGES = Column("images", "integer", "Number of test images under the condition.", low=1)

BOTTLENECK = TableSchema(
    "bottleneck",
    (
        _TASK,
        _PROFILE,
        Column(
            "head",
            "text",
            "`backbone_dense` and `backbone_sparse`: a linear layer on the network's features; `concepts_dense`; "
            "`concepts_sparse`: the bottleneck itself.",
        ),
        _HEAD_CONDITION,
        _SEVERITY,
        _CHANGED_IMAGES,
        _share("accuracy", "Accuracy", "Share of images that are decided right."),
        Column("low", "number", "Lower end of its 95 % Wilson interval.", low=0.0, high=1.0),
        Column("high", "number", "Upper end of the same interval.", low=0.0, high=1.0),
        Column("flips", "number", "Share of images that are decided otherwise than when clean.", low=0.0, high=1.0),
        Column("p_value", "number", "McNemar's test of right decisions; absent for clean.", True, 0.0, 1.0),
        Column("p_corrected", "number", "The same after Holm's correction over heads and conditions.", True, 0.0, 1.0),
        Column("difference", "number", "Accuracy less that of `backbone_dense`, which has none.", True, -1.0, 1.0),
        Column("difference_low", "number", "Lower end of its 95 % bootstrap interval over images.", True, -1.0, 1.0),
        Column("difference_high", "number", "Upper end of the same interval.", True, -1.0, 1.0),
        Column("p_dense", "number", "McNemar's test of the two heads' right decisions.", True, 0.0, 1.0),
        Column("p_dense_corrected", "number", "After Holm's correction over heads and conditions.", True, 0.0, 1.0),
    ),
    ("task", "profile", "head", "perturbation", "severity"),
)

CONCEPT_DRIFT = TableSchema(
    "concept_drift",
    (
        _TASK,
        _PROFILE,
        _HEAD_CONDITION,
        _SEVERITY,
        Column("concept", "text", "The concept's name, unescaped."),
        Column("context", "flag", "The task counts it among those that say where something is."),
        _CHANGED_IMAGES,
        Column("shift", "number", "Mean change of its activation, in standard deviations over clean images.", True),
        Column("auroc", "number", "AUROC of its activation, changed against clean images.", True, 0.0, 1.0),
        Column("flips", "integer", "Number of the bottleneck's decisions that changed.", low=0),
        Column(
            "flip_contribution",
            "number",
            "Its mean part in them, in logits: (weight of the new class less that of the old) times the change of the "
            "activation; absent without flips.",
            optional=True,
        ),
    ),
    ("task", "profile", "perturbation", "severity", "concept"),
)

CONTEXT_ANOMALY = TableSchema(
    "context_anomaly",
    (
        _TASK,
        _PROFILE,
        Column("negatives", "text", "What should score low: `clean` test images, or `anomaly`."),
        Column(
            "positives",
            "text",
            "What should score high: a condition that changes the context, or `anomaly`: clean images of classes that "
            "the bottleneck's training never saw.",
        ),
        _SEVERITY,
        Column(
            "inputs",
            "text",
            "What the score looks at: the `context` concepts, the `other` ones, `all`, the network's `features`, the "
            "`decision`, or `context less other`.",
        ),
        Column("score", "text", "`mahalanobis`, `largest z`, `nearest` (distances), or `confidence` (1 less it)."),
        Column("negative_images", "integer", "Number of images that should score low.", low=2),
        Column("positive_images", "integer", "Number of images that should score high.", low=2),
        _share("auroc", "AUROC", "Of the score."),
        Column("low", "number", "Lower end of its 95 % interval (DeLong, on the logit).", low=0.0, high=1.0),
        Column("high", "number", "Upper end of the same interval.", low=0.0, high=1.0),
    ),
    ("task", "profile", "negatives", "positives", "severity", "inputs", "score"),
)

DECISIONS = TableSchema(
    "decisions",
    (
        _TASK,
        _PROFILE,
        Column("image", "text", "Identifier of the test image."),
        _HEAD_CONDITION,
        _SEVERITY,
        Column("concept", "text", "A concept with a weight in either class, unescaped."),
        Column("truth", "text", "The image's class."),
        Column("clean_decision", "text", "What the bottleneck decides on the clean image."),
        Column("decision", "text", "What it decides under the condition."),
        Column("clean_activation", "number", "In standard deviations over the training images; clean."),
        Column("activation", "number", "The same under the condition."),
        Column("clean_contribution", "number", "What the concept adds to the logit of `clean_decision`, clean."),
        Column("contribution", "number", "What it adds to the logit of `decision` under the condition."),
        Column("moved", "number", "What its change adds to the margin of `decision` over `clean_decision`."),
    ),
    ("task", "profile", "image", "perturbation", "severity", "concept"),
)

TABLES = {
    schema.name: schema
    for schema in (
        LABELS, EVIDENCE, THUMBNAILS, SCORES, SUMMARY, FAITHFULNESS, COMPARISONS, SENSITIVITY, DETECTORS, TUNING,
        BOTTLENECK, CONCEPT_DRIFT, CONTEXT_ANOMALY, DECISIONS,
    )
}  # fmt: skip

LATER_TABLES = frozenset(
    {"thumbnails", "faithfulness", "sensitivity", "detectors", "tuning"}
    | {"bottleneck", "concept_drift", "context_anomaly", "decisions"}
)
"""Tables that a finished run may lack: nobody asked for them, or they came after it."""
