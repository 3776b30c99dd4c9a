"""Finished runs, told to an experiment tracker: their settings and the means of their summary; no label, no image.

Off unless ``--track`` names one. Each is an extra (``pip install 'clear-benchmark[wandb]'``) with its own settings, in
the environment variables that it documents; with ``--offline`` none opens a connection.
"""

from __future__ import annotations

import importlib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pandas as pd

from benchmark.core.display import Display
from leaderboard.board.summary import MEANS
from leaderboard.store.identity import canonical_json
from leaderboard.store.run_folder import RunFolder
from tasks.common.errors import UserError
from tasks.common.offline import opens_no_socket

_PROJECT: Final = "clear-benchmark"
_MEASURES: Final = (*MEANS, "units", "dead", "missing")


@dataclass(frozen=True)
class Finished:
    """What a tracker is told.

    Attributes:
        name: Name of the run folder.
        key: Hash of the settings: the same for the same run.
        settings: Option → value.
        numbers: ``task/method/condition/measure`` → mean over units.
    """

    name: str
    key: str
    settings: Mapping[str, Any]
    numbers: Mapping[str, float]


class Tracker(Protocol):
    """Tells one service of a finished run."""

    def __call__(self, run: Finished, service: Any) -> None:
        """Log ``run`` with ``service``, the tracker's own module."""
        ...


def track(name: str | None, folder: RunFolder, summary: pd.DataFrame, display: Display) -> None:
    """Tell a tracker of a finished run. If that fails, a warning says so: the run itself is complete.

    Args:
        name: None tells nobody.
        summary: Columns of ``leaderboard.store.schema.SUMMARY``.
    """
    if name is None:
        return
    info = folder.info()
    identity = {key: value for key, value in info["identity"].items() if key != "content"}
    settings = {
        key: value if isinstance(value, str | int | float) else canonical_json(value) for key, value in identity.items()
    }
    run = Finished(folder.path.name, info["identity_hash"], settings, dict(_numbers(summary)))
    try:
        _TRACKERS[name](run, importlib.import_module(name))
    except Exception as error:  # whatever a service and its network raise
        display.warning(f"{name} was not told of this run ({error}); run the same command again to try it again.")
        return
    display.message(f"{name} has the settings and {len(run.numbers)} numbers of this run")


def _numbers(summary: pd.DataFrame) -> Any:
    for row in summary.to_dict("records"):
        condition = f"{row['perturbation']}_{row['severity']}"
        for measure in _MEASURES:
            value = float(row[measure])
            if not math.isnan(value):
                place = "/".join(re.sub(r"[^\w.-]", "_", str(part)) for part in (row["task"], row["method"], condition))
                yield f"{place}/{measure}", value


def _wandb(run: Finished, service: Any) -> None:
    mode = "offline" if opens_no_socket() else None  # else as WANDB_MODE says
    started = service.init(
        project=_PROJECT, name=run.name, id=run.key[:16], resume="allow", config=dict(run.settings), mode=mode
    )
    started.log(dict(run.numbers))
    started.finish()


def _mlflow(run: Finished, service: Any) -> None:
    place = service.get_tracking_uri()
    if opens_no_socket() and not place.startswith(("file:", "sqlite:", os.sep)):
        raise UserError(f"--offline, and MLFLOW_TRACKING_URI is {place}")
    service.set_experiment(_PROJECT)
    with service.start_run(run_name=run.name):
        service.log_params({**run.settings, "identity_hash": run.key})
        service.log_metrics(dict(run.numbers))


def _trackio(run: Finished, service: Any) -> None:
    space = {"space_id": None} if opens_no_socket() else {}
    service.init(project=_PROJECT, name=run.name, config={**run.settings, "identity_hash": run.key}, **space)
    service.log(dict(run.numbers))
    service.finish()


_TRACKERS: Final[Mapping[str, Tracker]] = {"wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}
