"""The tables of the studies."""

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
            "For labels `accuracy`, `stability` and, relative to those of the untuned network's unit, `kept`; for the "
            "network `auroc` (mean over concepts), `error` (share of "
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

ATTRIBUTION = TableSchema(
    "attribution",
    (
        TASK,
        PROFILE,
        METHOD,
        PERTURBATION,
        SEVERITY,
        Column(
            "perturbed",
            "text",
            "`network`: the activations and maps; `pictures`: what the method sees of the images; `both`; `nothing` if "
            "the perturbation is `clean`.",
        ),
        UNIT,
        Column("label", "text", "The label, unescaped; absent if it is missing, and for a dead unit.", True),
        Column("stability", "number", "As in `scores`, relative to the label with nothing perturbed.", True, None, 1.0),
        Column("right", "flag", "It names `truth`; a missing label does not. Absent for unknown truth.", True),
        Column("right_now", "flag", "It names `truth_now`; otherwise as `right`.", True),
        Column("truth", "text", "What the unit does on clean images, where that is known.", True),
        Column("truth_now", "text", "What it does under the perturbation, where that is known.", True),
    ),
    ("task", "profile", "method", "perturbation", "severity", "perturbed", "unit"),
)

VARIANCE = TableSchema(
    "variance",
    (
        TASK,
        PROFILE,
        METHOD,
        Column(
            "space",
            "text",
            "Distance of two labels: one minus the cosine of their `clip` or `sentence` embeddings, or whether the "
            "`string` differs.",
        ),
        Column(
            "measure",
            "text",
            "`share` of the effect in the variance, which sum to 1; `total`: the sum of the shares of all effects that "
            "involve it, which is left if all other factors are held fixed; `variance`: the expected distance of two "
            "labels of a unit that have no level in common.",
        ),
        Column(
            "effect",
            "text",
            "A factor (`seed`, `images`, `perturbation`, `severity`, `concepts`), `perturbation x severity`, "
            "`other pairs`, `three and more` factors, `perturbation or severity`, or `all`.",
        ),
        Column("value", "number", "The estimate; absent if no label differs.", optional=True),
        Column("low", "number", "Lower end of its 95 % bootstrap interval over units.", optional=True),
        Column("high", "number", "Upper end of the same interval.", optional=True),
        Column("units", "integer", "Number of units with a label in every cell of the design.", low=1),
        Column("left_out", "integer", "Number of other units: dead, or without a label in some cell.", low=0),
        Column("labellings", "integer", "Number of times that the method labelled the units.", low=1),
    ),
    ("task", "profile", "method", "space", "measure", "effect"),
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

ATTACKS = TableSchema(
    "attacks",
    (
        TASK,
        PROFILE,
        UNIT,
        Column("target_unit", "integer", "The unit whose strongest images the unit is to respond to.", low=0),
        Column("images", "integer", "Number of attacked images at the largest share.", low=1),
        Column(
            "lowered",
            "number",
            "Mean change of the activation on the unit's own strongest images, in standard deviations over clean "
            "images.",
        ),
        Column("raised", "number", "Likewise on the other unit's strongest images; absent if there are none.", True),
        Column("lowered_by_noise", "number", "`lowered` under random noise of equal norm."),
        Column("raised_by_noise", "number", "`raised` under random noise of equal norm.", True),
        Column("mean_change", "number", "Mean absolute change of a value, in grey levels.", low=0.0),
        Column("largest_change", "integer", "Maximum absolute change of a value, in grey levels.", low=0, high=255),
        Column("psnr", "number", "Peak signal-to-noise ratio in dB; absent where nothing could be changed.", True),
        Column("sha256", "text", "SHA-256 of the change: equal for equal attacks."),
        Column("source_concept", "text", "The unit's concept in an attack with masks; else absent.", optional=True),
        Column("target_concept", "text", "Likewise of the other unit.", optional=True),
    ),
    ("task", "profile", "unit"),
)

ATTACKED_LABELS = TableSchema(
    "attacked_labels",
    (
        TASK,
        PROFILE,
        METHOD,
        UNIT,
        Column(
            "images",
            "text",
            "`attack`; `noise`: the same values changed by as many grey levels, up or down at random; `again`: a clean "
            "repeat.",
        ),
        Column("share", "number", "Share of the probing images that are changed.", low=0.0, high=1.0),
        Column("clean_label", "text", "Label on clean images, unescaped; absent if missing.", optional=True),
        Column("label", "text", "Label on the changed images, unescaped; absent if missing.", optional=True),
        Column("changed", "flag", "The two labels differ."),
        Column("clean_right", "flag", "The clean label is right; absent if the truth is unknown.", optional=True),
        Column("right", "flag", "The label is right; absent if the truth is unknown.", optional=True),
        Column(
            "reached",
            "flag",
            "The label equals the clean label of the target unit; absent if both units have the same clean label.",
            optional=True,
        ),
    ),
    ("task", "profile", "method", "unit", "images", "share"),
)

_CUE = Column("cue", "text", "What is tied to the kind of object: `colour`, `pattern` or `background`.")

CUE_UNITS = TableSchema(
    "cue_units",
    (
        TASK,
        PROFILE,
        _CUE,
        UNIT,
        Column("kind", "text", "The kind one of whose two cues predicts the activation best."),
        Column("value", "text", "The value of the cue that is tied to this kind."),
        Column(
            "kind_auroc", "number", "AUROC of the activation for the kind, where kind and value are independent.",
            True, 0.0, 1.0,
        ),
        Column("value_auroc", "number", "Likewise for the value.", True, 0.0, 1.0),
        Column(
            "follows",
            "text",
            "What the unit follows: `kind` or `value`; `undecided` if the AUROCs are alike, `neither` if both are low.",
        ),
    ),
    ("task", "profile", "cue", "unit"),
)  # fmt: skip

CUE_LABELS = TableSchema(
    "cue_labels",
    (
        TASK,
        PROFILE,
        METHOD,
        _CUE,
        UNIT,
        Column(
            "arrangement",
            "text",
            "Images that the label was found on: `tied`, each kind with its own value, or `swapped`, with another's.",
        ),
        Column("label", "text", "The label, unescaped; absent if missing.", optional=True),
        Column("named", "text", "Which of the unit's two cues it names: `kind`, `value`, `both` or `neither`."),
        Column("along", "flag", "It names the other cue of the images that excite the unit."),
    ),
    ("task", "profile", "method", "cue", "unit", "arrangement"),
)

CUE_NETWORK = TableSchema(
    "cue_network",
    (
        TASK,
        PROFILE,
        _CUE,
        Column("image", "text", "Identifier of the swapped image."),
        Column("kind", "text", "Kind of object that it shows."),
        Column("value", "text", "Value of the cue that it shows."),
        Column("follows_kind", "flag", "The network's output for the kind stands out more than that for the value."),
    ),
    ("task", "profile", "cue", "image"),
)

EXCHANGE = TableSchema(
    "exchange",
    (
        TASK,
        PROFILE,
        METHOD,
        UNIT,
        Column("own_label", "text", "Label found with the run's images, unescaped; absent if missing.", optional=True),
        Column(
            "other_label", "text", "Label found with the other images, unescaped; absent if missing.", optional=True
        ),
        Column(
            "similarity", "number", "Cosine of both labels' CLIP embeddings; absent if one is missing.", True, -1.0, 1.0
        ),
        Column("noise_floor", "number", "The same of a repeat on the run's images.", True, -1.0, 1.0),
        Column("chance", "number", "The same of `own_label` and other units'.", True, -1.0, 1.0),
        Column("same", "flag", "Both labels are equal; absent if one is missing.", optional=True),
        Column(
            "same_again", "flag", "A repeat on the run's images has the same label; absent likewise.", optional=True
        ),
        Column("right", "flag", "`own_label` is right; absent if the truth is unknown.", optional=True),
        Column("other_right", "flag", "`other_label` is right; absent if the truth is unknown.", optional=True),
    ),
    ("task", "profile", "method", "unit"),
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

NETWORKS = TableSchema(
    "networks",
    (
        TASK,
        PROFILE,
        METHOD,
        Column(
            "matching",
            "text",
            "`same number`; `by activation`: the one-to-one assignment with the greatest sum of correlations; `by "
            "label`: the same for the similarity of labels, among the units that `by activation` found.",
        ),
        UNIT,
        Column("other_unit", "integer", "Its match: index of a unit in the other network's layer.", low=0),
        Column("correlation", "number", "Of both units' pooled activations over the images (Pearson).", False, -1, 1),
        *(column for column in EXCHANGE.columns if column.name in ("similarity", "noise_floor", "same_again", "right")),
        Column("own_label", "text", "Label of the task's network, unescaped; absent if missing.", optional=True),
        Column("other_label", "text", "Label of the match, unescaped; absent if missing.", optional=True),
        Column(
            "chance",
            "number",
            "Similarity of `own_label` and other units'; for `by label` that of the best match within the own network.",
            True,
            -1.0,
            1.0,
        ),
        Column("same", "flag", "Both labels are equal; absent if one is missing.", optional=True),
        Column("other_right", "flag", "`other_label` is right of the match; absent if unknown.", optional=True),
    ),
    ("task", "profile", "method", "matching", "unit"),
)

STUDIES: Final[Mapping[str, tuple[TableSchema, ...]]] = {
    "sensitivity": (SENSITIVITY, DETECTORS),
    "robustness": (ROBUSTNESS,),
    "tuning": (TUNING,),
    "variance": (VARIANCE,),
    "attribution": (ATTRIBUTION,),
    "probing_attack": (ATTACKS, ATTACKED_LABELS),
    "cue_conflict": (CUE_UNITS, CUE_LABELS, CUE_NETWORK),
    "exchange": (EXCHANGE,),
    "label_sets": (LABEL_SETS,),
    "networks": (NETWORKS,),
}
"""What ``--analysis`` can ask for → its tables. Their rows depend on each other, so a group of runs uses those of one
run.

A study is ``benchmark.studies.NAME``, and ``leaderboard.view.studies`` defines how its tables are shown.
"""
