"""The tables of the analyses: sensitive units, robustness, tuned image sets, label sets, concept bottlenecks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from leaderboard.store.columns import (
    METHOD,
    PERTURBATION,
    PLACE,
    PROFILE,
    SEVERITY,
    TASK,
    UNIT,
    Column,
    TableSchema,
    share,
)

_FAMILY = Column("family", "text", "Family of the perturbation: `noise`, `blur`, `weather`, `digital`, `mask`.")
_IMAGES = Column("images", "integer", "Number of images, each clean and perturbed.", low=1)

SENSITIVITY = TableSchema(
    "sensitivity",
    (
        TASK,
        PROFILE,
        PERTURBATION,
        SEVERITY,
        _FAMILY,
        UNIT,
        _IMAGES,
        Column(
            "auroc",
            "number",
            "P(perturbed > clean) + P(equal)/2 over all pairs of a perturbed and a clean image; absent for a unit that "
            "is constant on all images.",
            optional=True,
            low=0.0,
            high=1.0,
            title="AUROC",
        ),
        Column(
            "paired_auroc",
            "number",
            "Share of images on which the activation increases, ties count half; absent as `auroc`.",
            optional=True,
            low=0.0,
            high=1.0,
            title="Paired AUROC",
        ),
        Column(
            "effect",
            "number",
            "Cohen's d_av: mean difference divided by the mean standard deviation of both; absent without a deviation.",
            optional=True,
            title="Effect size",
        ),
        Column("p_value", "number", "Wilcoxon's signed-rank test; absent as `auroc`.", True, 0.0, 1.0),
        Column(
            "p_corrected",
            "number",
            "`p_value` after Holm's correction over all units and conditions of the task.",
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
        TASK,
        PROFILE,
        Column(
            "trained_on",
            "text",
            "A perturbation and severity; `all but FAMILY`; or `all`. Training and test images are disjoint.",
        ),
        Column("selection", "text", "`best`: the most sensitive units of the training images; `random`: any units."),
        Column("count", "integer", "Number of units of the detector.", low=1),
        _FAMILY,
        Column(
            "perturbation",
            "text",
            "What it is tested on; `all` for the mean over the family's conditions, without its training conditions "
            "unless `trained_on` is `all`.",
        ),
        Column("severity", "integer", "1 (weak) to 5 (strong); 0 if the perturbation is `all`.", low=0, high=5),
        _IMAGES,
        Column(
            "auroc", "number", "AUROC of its scores: perturbed against clean images.", False, 0.0, 1.0, True, "AUROC"
        ),
        Column("low", "number", "Lower end of the 95 % bootstrap interval over images.", False, 0.0, 1.0),
        Column("high", "number", "Upper end of the same interval.", False, 0.0, 1.0),
    ),
    ("task", "profile", "trained_on", "selection", "count", "family", "perturbation", "severity"),
)

ROBUSTNESS = TableSchema(
    "robustness",
    (
        TASK,
        PROFILE,
        Column(
            "role",
            "text",
            "Who classifies the image: `network`, by its highest output, or `clip`, by the nearest class name.",
        ),
        PERTURBATION,
        SEVERITY,
        Column("image", "text", "Identifier of the probing image; absent if the condition leaves it out."),
        Column(
            "right",
            "flag",
            "The predicted class is the image's own or, where images show several kinds of objects, one that it shows.",
        ),
    ),
    ("task", "profile", "role", "perturbation", "severity", "image"),
)

TUNING = TableSchema(
    "tuning",
    (
        TASK,
        PROFILE,
        Column(
            "study",
            "text",
            "`probing set`: a share of the probing images is perturbed on purpose; `network`: the network's last stage "
            "is tuned on perturbed images.",
        ),
        Column("arm", "text", "The share, from 0 to 1; or what the network was fine-tuned on, `untuned` for none."),
        Column("subject", "text", "The labelling method; `network` for the network's own recognition."),
        Column(
            "measure",
            "text",
            "For labels `accuracy` and `stability`; for the network `auroc` (mean over concepts), `error` (share of "
            "wrong decisions at threshold one half) and `error_ratio` (relative to the untuned network).",
        ),
        Column(
            "conditions",
            "text",
            "`clean`, a perturbation and severity, or the mean over those `tuned on` or `held out`.",
        ),
        Column("value", "number", "Mean over units, concepts or images; or the ratio. Absent if undefined.", True),
        Column("low", "number", "Lower end of its 95 % bootstrap interval.", optional=True),
        Column("high", "number", "Upper end of the same interval.", optional=True),
        Column("n", "integer", "Number of units, concepts or images.", low=0),
        Column(
            "difference",
            "number",
            "From share 0 or the untuned network, paired; absent for these themselves and for ratios.",
            optional=True,
        ),
        Column("difference_low", "number", "Lower end of its 95 % bootstrap interval; not corrected.", optional=True),
        Column("difference_high", "number", "Upper end of the same interval.", optional=True),
        Column("p_value", "number", "Sign-flip permutation test of the difference; for means only.", True, 0.0, 1.0),
        Column("p_corrected", "number", "`p_value` after Holm's correction over a task's study.", True, 0.0, 1.0),
    ),
    ("task", "profile", "study", "arm", "subject", "measure", "conditions"),
)

_HEAD_CONDITION = Column(
    "perturbation",
    "text",
    "`clean`, the perturbation's name, or, if images can be rendered again, `other_background` (the same objects on "
    "another background of the training set) or `unseen_background` (one that is not in the training set).",
)
_CHANGED_IMAGES = Column("images", "integer", "Number of test images under the condition.", low=1)

BOTTLENECK = TableSchema(
    "bottleneck",
    (
        TASK,
        PROFILE,
        Column(
            "head",
            "text",
            "`backbone_dense` and `backbone_sparse`: a linear layer on the network's features; `concepts_dense`; "
            "`concepts_sparse`: the bottleneck itself.",
        ),
        _HEAD_CONDITION,
        SEVERITY,
        _CHANGED_IMAGES,
        share("accuracy", "Accuracy", "Share of images that are classified correctly."),
        Column("low", "number", "Lower end of its 95 % Wilson interval.", low=0.0, high=1.0),
        Column("high", "number", "Upper end of the same interval.", low=0.0, high=1.0),
        Column("flips", "number", "Share of images whose decision differs from the clean one.", low=0.0, high=1.0),
        Column("p_value", "number", "McNemar's test of correct decisions; absent for clean.", True, 0.0, 1.0),
        Column("p_corrected", "number", "`p_value` after Holm's correction over heads and conditions.", True, 0.0, 1.0),
        Column("difference", "number", "Accuracy minus that of `backbone_dense`, where it is absent.", True, -1.0, 1.0),
        Column("difference_low", "number", "Lower end of its 95 % bootstrap interval over images.", True, -1.0, 1.0),
        Column("difference_high", "number", "Upper end of the same interval.", True, -1.0, 1.0),
        Column("p_dense", "number", "McNemar's test of the two heads' correct decisions.", True, 0.0, 1.0),
        Column(
            "p_dense_corrected",
            "number",
            "`p_dense` after Holm's correction over heads and conditions.",
            True,
            0.0,
            1.0,
        ),
    ),
    ("task", "profile", "head", "perturbation", "severity"),
)

CONCEPT_DRIFT = TableSchema(
    "concept_drift",
    (
        TASK,
        PROFILE,
        _HEAD_CONDITION,
        SEVERITY,
        Column("concept", "text", "The concept's name, unescaped."),
        Column("context", "flag", "The task lists it as a context concept: one that says where something is."),
        _CHANGED_IMAGES,
        Column("shift", "number", "Mean change of its activation, in standard deviations over clean images.", True),
        Column("auroc", "number", "AUROC of its activation, perturbed against clean images.", True, 0.0, 1.0),
        Column("flips", "integer", "Number of the bottleneck's decisions that changed.", low=0),
        Column(
            "flip_contribution",
            "number",
            "Its mean contribution to them, in logits: (weight of the new class minus that of the old) times the "
            "change of the activation; absent without flips.",
            optional=True,
        ),
    ),
    ("task", "profile", "perturbation", "severity", "concept"),
)

CONTEXT_ANOMALY = TableSchema(
    "context_anomaly",
    (
        TASK,
        PROFILE,
        Column("negatives", "text", "What should score low: `clean` test images, or `anomaly`."),
        Column(
            "positives",
            "text",
            "What should score high: a condition that changes the context, or `anomaly`: clean images of classes that "
            "the bottleneck's training never saw.",
        ),
        SEVERITY,
        Column(
            "inputs",
            "text",
            "Input of the score: the `context` concepts, the `other` ones, `all`, the network's `features`, the "
            "`decision`, or `context less other`.",
        ),
        Column("score", "text", "`mahalanobis`, `largest z`, `nearest` (distances), or `confidence` (1 minus it)."),
        Column("negative_images", "integer", "Number of images that should score low.", low=2),
        Column("positive_images", "integer", "Number of images that should score high.", low=2),
        share("auroc", "AUROC", "AUROC of the score."),
        Column("low", "number", "Lower end of its 95 % interval (DeLong, on the logit).", low=0.0, high=1.0),
        Column("high", "number", "Upper end of the same interval.", low=0.0, high=1.0),
    ),
    ("task", "profile", "negatives", "positives", "severity", "inputs", "score"),
)

DECISIONS = TableSchema(
    "decisions",
    (
        TASK,
        PROFILE,
        Column("image", "text", "Identifier of the test image."),
        _HEAD_CONDITION,
        SEVERITY,
        Column("concept", "text", "A concept with a weight in either class, unescaped."),
        Column("truth", "text", "The image's class."),
        Column("clean_decision", "text", "Class predicted by the bottleneck on the clean image."),
        Column("decision", "text", "Class predicted under the condition."),
        Column("clean_activation", "number", "In standard deviations over the training images; clean."),
        Column("activation", "number", "The same under the condition."),
        Column("clean_contribution", "number", "The concept's contribution to the logit of `clean_decision`, clean."),
        Column("contribution", "number", "Its contribution to the logit of `decision` under the condition."),
        Column("moved", "number", "Contribution of its change to the margin of `decision` over `clean_decision`."),
    ),
    ("task", "profile", "image", "perturbation", "severity", "concept"),
)

DEPENDENCE = TableSchema(
    "dependence",
    (
        *PLACE,
        Column("part", "text", "The part of the label that the row describes, unescaped; empty for the unit itself."),
        Column(
            "foreground",
            "number",
            "Share of its excess activation that the unit loses when only the foreground changes; for a part, share of "
            "the captions that no longer contain it. Absent if no change affects the foreground.",
            optional=True,
            low=0.0,
            high=1.0,
            title="Foreground",
        ),
        Column("background", "number", "Likewise for the background.", True, 0.0, 1.0, title="Background"),
        Column(
            "context",
            "number",
            "Mean loss of the unit over all changes, including those of the whole image; absent for parts.",
            optional=True,
            low=0.0,
            high=1.0,
            title="Context",
        ),
    ),
    ("task", "profile", "method", "perturbation", "severity", "repeat", "unit", "part"),
)


def _end(name: str, word: str, high: float | None = 1.0) -> Column:
    return Column(name, "number", f"{word} end of its 95 % interval over units.", True, 0.0, high)


LABEL_SETS = TableSchema(
    "label_sets",
    (
        TASK,
        PROFILE,
        METHOD,
        PERTURBATION,
        SEVERITY,
        Column("kind", "text", "Truth of the units: `single`, `and`, `or`, `unknown`, or `all` for all units."),
        Column("draws", "integer", "Number of resampled probing sets that make the sets of labels.", low=1),
        Column("level", "number", "Nominal level of the sets.", low=0.0, high=1.0),
        Column("units", "integer", "Number of units, without dead ones.", low=1),
        share("coverage", "Coverage of redraws", "Share of further resampled probing sets whose label is in the set."),
        _end("coverage_low", "Lower"),
        _end("coverage_high", "Upper"),
        share("randomised", "Randomised", "The same if the last label counts only as far as the level needs it."),
        _end("randomised_low", "Lower"),
        _end("randomised_high", "Upper"),
        Column("known", "integer", "Number of these units whose truth is known.", low=0),
        share("truth", "Coverage of truth", "Share of units whose set holds a right label; absent without truth."),
        _end("truth_low", "Lower"),
        _end("truth_high", "Upper"),
        share("first_right", "First right", "Share of units whose most frequent label is right; absent without truth."),
        Column("size", "number", "Mean number of labels of a set.", low=0.0),
        _end("size_low", "Lower", None),
        _end("size_high", "Upper", None),
        share("one_label", "One label", "Share of units whose set has a single label."),
    ),
    ("task", "profile", "method", "perturbation", "severity", "kind", "draws", "level"),
)

STUDIES: Final[Mapping[str, tuple[TableSchema, ...]]] = {
    "sensitivity": (SENSITIVITY, DETECTORS),
    "robustness": (ROBUSTNESS,),
    "tuning": (TUNING,),
    "label_sets": (LABEL_SETS,),
}
"""What ``--analysis`` can ask for → its tables. Their rows depend on each other, so a group of runs uses those of one
run.

A study is ``benchmark.studies.NAME``, and ``leaderboard.view.studies`` defines how its tables are shown.
"""
