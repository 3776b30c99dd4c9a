"""Runs that trained concept bottlenecks: they label no units, so they stand beside the board.

Their tables rest on each other (tests are corrected over all of them), so each group is one run's; of two runs with the
same settings and conditions the newer one counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from leaderboard.board.facts import run_facts
from leaderboard.board.groups import SHARED, AnyGroup, Condition, LeftOut, source_of
from leaderboard.board.names import ORDER
from leaderboard.store.errors import StoreError
from leaderboard.store.identity import canonical_json, identity_hash, safe_name
from leaderboard.store.run_folder import RunFolder
from leaderboard.store.schema import BOTTLENECK, CONCEPT_DRIFT, CONTEXT_ANOMALY, DECISIONS, THUMBNAILS

HEADS: Final = ("backbone_dense", "backbone_sparse", "concepts_dense", "concepts_sparse")
"""The classifiers that are compared; the last one is the bottleneck."""

TABLES: Final = (BOTTLENECK, CONCEPT_DRIFT, CONTEXT_ANOMALY, DECISIONS, THUMBNAILS)
"""Those that such a run has."""


@dataclass(frozen=True)
class BottleneckGroup(AnyGroup):
    """One task's concept bottleneck; ``tables`` holds those of bottlenecks, and thumbnails.

    Attributes:
        facts: What ``run.json`` says of it: classes, concepts, filters, weights.
    """

    facts: Mapping[str, Any]

    @property
    def heads(self) -> pd.DataFrame:
        """Rows of ``leaderboard.store.schema.BOTTLENECK``."""
        return self.tables["bottleneck"]


def bottlenecks_of(folder: RunFolder, info: Mapping[str, Any], name: str) -> Iterator[BottleneckGroup]:
    """The bottlenecks of one run.

    Args:
        info: Its ``run.json``.
        name: A name for it that says nothing of the machine.

    Raises:
        StoreError: It is not finished, or a table is damaged.
    """
    identity, facts = info["identity"], info["facts"]
    if not facts.get("bottleneck", {}).get("done"):
        raise StoreError(f"{folder.path} is not finished; run the same command again.")
    tables = {schema.name: folder.read_table(schema.name) for schema in TABLES}
    for task, about in sorted(identity["content"]["tasks"].items()):
        own = {key: table.loc[table["task"].to_numpy() == task] for key, table in tables.items()}
        profile = str(own["bottleneck"]["profile"].iloc[0])
        yield BottleneckGroup(
            safe_name(f"{task}-v{about['version']}-{profile}", 60),
            task,
            int(about["version"]),
            profile,
            _settings(identity, task),
            facts["tasks"].get(task, {}),
            facts["profile"],
            run_facts(info),
            (source_of(info, name),),
            own,
            facts["bottleneck"]["tasks"][task],
        )


def newest_of(found: Sequence[BottleneckGroup], left_out: list[LeftOut]) -> list[BottleneckGroup]:
    """One of each settings, sorted; the older ones are added to ``left_out`` with the reason."""
    kept: dict[str, BottleneckGroup] = {}
    newest_first = sorted(found, key=lambda group: (group.sources[0].finished, group.sources[0].run), reverse=True)
    for group in newest_first:
        key = canonical_json([group.task, group.version, group.profile, group.settings])
        newer = kept.setdefault(key, group)
        if newer is not group:
            left_out.append(LeftOut(group.sources[0].run, f"{group.task}: {newer.sources[0].run} is the same, newer."))
    return sorted(kept.values(), key=lambda group: (group.task, -group.version, group.profile, _size(group)))


def conditions_in_order(frame: pd.DataFrame) -> list[Condition]:
    """The conditions of a table, ``clean`` and the changed backgrounds first, then in the order of all tables."""
    found = {(str(name), int(severity)) for name, severity in frame[["perturbation", "severity"]].to_numpy()}
    last = len(ORDER)
    return sorted(found, key=lambda one: (one[1] > 0, one[0] != "clean", ORDER.get(one[0], last), *one))


def _size(group: BottleneckGroup) -> tuple[int, str]:
    # The run with most conditions has the plain name.
    return -len(group.heads), canonical_json(group.settings)


def _settings(identity: Mapping[str, Any], task: str) -> dict[str, Any]:
    """What changes the result of one task of a run."""
    content = identity["content"]
    options = {name: identity[name] for name in SHARED}
    return {
        **options,
        "images": options["images"] or content["tasks"][task]["images"],
        "masks": content["masks"],
        "content": {
            "bottleneck": content["bottleneck"],
            "task": content["tasks"][task],
            "profile": content["profile"],
            "images": identity_hash(content["images"][task]),
            "concepts": content["concepts"][task],
            "conditions": content["conditions"][task],
            "perturbations": content["perturbations"],
            "engine": content["perturbations"]["engine"],
        },
    }
