"""The tables of the analyses: sensitive units, accuracy kept, tuned image sets, concept bottlenecks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from leaderboard.store.columns import PERTURBATION, PLACE, PROFILE, SEVERITY, TASK, UNIT, Column, TableSchema, share

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
        TASK,
        PROFILE,
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

ROBUSTNESS = TableSchema(
    "robustness",
    (
        TASK,
        PROFILE,
        Column(
            "role",
            "text",
            "Who classifies the image: `network`, by its highest output, or `clip`, by the nearest of the names.",
        ),
        PERTURBATION,
        SEVERITY,
        Column("image", "text", "Identifier of the probing image; absent where the condition leaves it out."),
        Column(
            "right",
            "flag",
            "The class is the image's own or, where images show several kinds of objects, one that it shows.",
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
        share("accuracy", "Accuracy", "Share of images that are decided right."),
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
        TASK,
        PROFILE,
        _HEAD_CONDITION,
        SEVERITY,
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
            "What the score looks at: the `context` concepts, the `other` ones, `all`, the network's `features`, the "
            "`decision`, or `context less other`.",
        ),
        Column("score", "text", "`mahalanobis`, `largest z`, `nearest` (distances), or `confidence` (1 less it)."),
        Column("negative_images", "integer", "Number of images that should score low.", low=2),
        Column("positive_images", "integer", "Number of images that should score high.", low=2),
        share("auroc", "AUROC", "Of the score."),
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

DEPENDENCE = TableSchema(
    "dependence",
    (
        *PLACE,
        Column("part", "text", "The part of the label that the row is about, unescaped; empty for the unit itself."),
        Column(
            "foreground",
            "number",
            "Share of its excess activation that the unit loses when the foreground alone changes; of a part, share of "
            "the captions that no longer hold it. Absent where nothing changed the foreground.",
            optional=True,
            low=0.0,
            high=1.0,
            title="Foreground",
        ),
        Column("background", "number", "The same of the background.", True, 0.0, 1.0, title="Background"),
        Column(
            "context",
            "number",
            "Mean loss of the unit over all changes, those of the whole image too; absent for parts.",
            optional=True,
            low=0.0,
            high=1.0,
            title="Context",
        ),
    ),
    ("task", "profile", "method", "perturbation", "severity", "repeat", "unit", "part"),
)

STUDIES: Final[Mapping[str, tuple[TableSchema, ...]]] = {
    "sensitivity": (SENSITIVITY, DETECTORS),
    "robustness": (ROBUSTNESS,),
    "tuning": (TUNING,),
}
"""What ``--analysis`` can ask for → its tables. Their rows rest on each other, so a group of runs has those of one run.

A study is ``benchmark.studies.NAME``, and ``leaderboard.view.studies`` says how its tables read.
"""
