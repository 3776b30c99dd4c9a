"""What readers are shown of each study, in the order of page and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.view.attribution import attribution_contents
from leaderboard.view.background_gap import background_gap_contents
from leaderboard.view.clarity import clarity_contents
from leaderboard.view.collisions import collision_contents
from leaderboard.view.content import Table
from leaderboard.view.cost import cost_contents
from leaderboard.view.cue_conflict import cue_conflict_contents
from leaderboard.view.dependence import dependence_contents
from leaderboard.view.exchange import exchange_contents
from leaderboard.view.label_sets import label_set_contents
from leaderboard.view.networks import networks_contents
from leaderboard.view.probing_attack import probing_attack_contents
from leaderboard.view.robustness import robustness_contents
from leaderboard.view.sensitivity import sensitivity_contents
from leaderboard.view.trust import trust_contents
from leaderboard.view.tuning import tuning_contents
from leaderboard.view.variance import variance_contents


@dataclass(frozen=True)
class StudyView:
    """How a study reads.

    Attributes:
        name: Of the study, and of the files of its tables.
        title: Heading of its chapter and of its part of a page.
        question: What it asks, for the beginning of the chapter; plain text.
        contents: Its tables, one or more per task and profile, from all tables of a run or group; none if no run holds
            it.
    """

    name: str
    title: str
    question: str
    contents: Callable[[Mapping[str, pd.DataFrame], RunFacts], list[Table]]


VIEWS: Final = (
    StudyView(
        "trust",
        "What a label's stability is worth",
        "Where the truth is unknown, only other signals can say whether a label is right: its stability, its score, "
        "agreement with another method, how well it fits the activations. How well does each tell right from wrong "
        "labels where the truth is known?",
        trust_contents,
    ),
    StudyView(
        "cost",
        "Right labels per cost",
        "How many seconds does a method spend on a label, and how many of its labels are right? Which methods are "
        "worth their time?",
        lambda tables, facts: cost_contents(tables["summary"], facts),
    ),
    StudyView(
        "collisions",
        "Labels that units share",
        "A label tells little about a unit if many units have it. How many bits are missing to tell the units apart?",
        lambda tables, facts: collision_contents(tables["scores"], facts),
    ),
    StudyView(
        "background_gap",
        "BG-gap",
        "On another image's background labels may fail because the context has changed, or because the foreground was "
        "pasted. How much more do they lose on the background of a random class than on that of their own?",
        lambda tables, facts: background_gap_contents(tables["scores"], facts),
    ),
    StudyView(
        "dependence",
        "What units depend on",
        "How much of what excites a unit lies in the foreground of its images, how much in their background, and how "
        "far does it depend on the context at all? A method that sees the same images in several contexts says so.",
        lambda tables, facts: dependence_contents(tables["dependence"], tables["labels"], tables["scores"], facts),
    ),
    StudyView(
        "sensitivity",
        "Perturbation-sensitive units",
        "Can a unit's activation alone tell a perturbed image from the same image, clean? Which units single out one "
        "family of perturbations, and do they find degraded images of a kind that they were not chosen on?",
        lambda tables, facts: sensitivity_contents(tables["sensitivity"], tables["detectors"], tables["labels"], facts),
    ),
    StudyView(
        "robustness",
        "Accuracy kept",
        "How much of its accuracy on clean images does the network keep under each condition, and how much does the "
        "image-text encoder that methods rest on?",
        lambda tables, facts: robustness_contents(tables["robustness"], facts),
    ),
    StudyView(
        "tuning",
        "Tuning by image sets",
        "Are labels better, or do they move less, if a share of the probing images is perturbed on purpose? And if the "
        "network itself is tuned on perturbed images?",
        lambda tables, facts: tuning_contents(tables["tuning"], facts),
    ),
    StudyView(
        "variance",
        "Where instability comes from",
        "A label may change with the seed, with the images that happen to be probed, with the perturbation and its "
        "severity, and with the concept set. How much of the change is due to each of them?",
        lambda tables, facts: variance_contents(tables["variance"], facts),
    ),
    StudyView(
        "attribution",
        "Who moved, the network or the pictures",
        "Under fog a label can change because the unit answers to other images, or because captioner, CLIP and "
        "generator look at foggy pictures. How much of the loss is due to each, and what does the unit do in the fog?",
        lambda tables, facts: attribution_contents(tables["attribution"], facts),
    ),
    StudyView(
        "clarity",
        "Clarity of units",
        "Do a unit's top images look alike, do they fall into groups, and does another unit have the same? And do they "
        "still look alike under a perturbation? No label is needed for that.",
        lambda tables, facts: clarity_contents(tables["scores"], facts),
    ),
    StudyView(
        "probing_attack",
        "Attack on the probing set",
        "How many labels can someone turn who changes a few of the probing images by at most four grey levels, and how "
        "many turn under random noise of the same size?",
        lambda tables, facts: probing_attack_contents(tables["attacked_labels"], tables["attacks"], facts),
    ),
    StudyView(
        "cue_conflict",
        "Cue conflict",
        "Where every kind of object has a colour, pattern or background of its own, a unit's label could name either. "
        "Does it name the one that the unit follows, and still do so when the cues are swapped?",
        lambda tables, facts: cue_conflict_contents(
            tables["cue_units"], tables["cue_labels"], tables["cue_network"], facts
        ),
    ),
    StudyView(
        "exchange",
        "Exchange of the probing set",
        "How far do the labels of the same units move if they are found with other images, compared with a repeat on "
        "the same images?",
        lambda tables, facts: exchange_contents(tables["exchange"], facts),
    ),
    StudyView(
        "label_sets",
        "Sets of labels",
        "How often does a set of labels from resampled probing sets hold the label that a further one would give, and "
        "how often a right one? A nominal level promises the former only.",
        lambda tables, facts: label_set_contents(tables["label_sets"], facts),
    ),
    StudyView(
        "networks",
        "Two networks",
        "How far do labels move from one network to another, trained from another seed, tuned, or made robust? And to "
        "the other network's unit that matches best?",
        lambda tables, facts: networks_contents(tables["networks"], facts),
    ),
)
