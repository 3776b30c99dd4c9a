"""What readers are shown of each study, in the order of page and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.view.content import Table
from leaderboard.view.dependence import dependence_contents
from leaderboard.view.label_sets import label_set_contents
from leaderboard.view.robustness import robustness_contents
from leaderboard.view.sensitivity import sensitivity_contents
from leaderboard.view.trust import trust_contents
from leaderboard.view.tuning import tuning_contents


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
        lambda tables, facts: sensitivity_contents(
            tables["sensitivity"], tables["detectors"], tables["labels"], facts, {"planted_from": facts.planted_from}
        ),
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
        "label_sets",
        "Sets of labels",
        "How often does a set of labels from resampled probing sets hold the label that a further one would give, and "
        "how often a right one? A nominal level promises the former only.",
        lambda tables, facts: label_set_contents(tables["label_sets"], facts),
    ),
)
