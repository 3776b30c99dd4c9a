"""Submissions as a forger who knows the program would make them: every hash and every mean computed anew."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from leaderboard.board.summary import summarise
from leaderboard.store.frames import parquet_bytes, read_parquet, to_arrow, to_pandas
from leaderboard.store.identity import identity_hash
from leaderboard.store.run_folder import finished
from leaderboard.store.schema import TABLES


def members(pack: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(pack) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path: Path, contents: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def forge(
    pack: Path,
    path: Path,
    scores: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    run: Callable[[dict[str, Any]], object] | None = None,
    summary: bool = True,
    **tables: Callable[[pd.DataFrame], pd.DataFrame],
) -> Path:
    """A changed copy of a submission, with its summary, hashes and seal as if nothing had happened.

    Args:
        scores: Changes that table; ``tables`` others by name.
        run: Changes ``run.json`` in place.
        summary: Whether the means follow from the changed scores.
    """
    contents = members(pack)
    info = json.loads(contents["run.json"])
    if run is not None:
        run(info)
        info["identity_hash"] = identity_hash(info["identity"])
    changes = {"scores": scores, **tables} if scores else tables
    for name, change in changes.items():
        schema = TABLES[name]
        frame = change(to_pandas(schema, read_parquet(contents[f"{name}.parquet"])))
        contents[f"{name}.parquet"] = parquet_bytes(to_arrow(schema, frame))
        if name == "scores" and summary:
            means = summarise(frame, info["identity"]["seed"])
            contents["summary.parquet"] = parquet_bytes(to_arrow(TABLES["summary"], means))
    files = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items() if name != "run.json"}
    info["facts"]["finished"] = finished(info, files)
    return write_zip(path, contents | {"run.json": json.dumps(info).encode()})
