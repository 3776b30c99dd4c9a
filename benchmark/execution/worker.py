"""A process that does the items that a driver sends it, whatever engine carries them. What goes in and out is JSON."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import socket
import sys
import threading
import time
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmark.core.display import Display
from benchmark.core.items import Item
from benchmark.core.language_check import build_summariser
from benchmark.core.options import RunOptions
from benchmark.core.preflight import check
from benchmark.core.prepare import pick_device
from benchmark.core.tables_cache import source_hash
from benchmark.execution.prepare import load_parts, prepare
from benchmark.execution.session import Session
from benchmark.execution.shared import PATIENCE, Beats, Blocks, StoredDrawings, shared_folder
from leaderboard.store import atomic
from leaderboard.store.claims import Leases
from leaderboard.store.errors import StoreError
from leaderboard.store.identity import as_json, differences
from leaderboard.store.run_folder import RunFolder
from leaderboard.store.session import session as installed
from tasks.cache.keys import device_kind
from tasks.common.errors import UserError
from tasks.common.offline import go_offline
from tasks.language.broker import Ask, Broker, Refused, Role, key_variables
from tasks.language.chat import Message, Reply
from tasks.language.picture import Picture
from tasks.profiles.build import Roles

log = logging.getLogger(__name__)

LIMIT: Final = 1_000_000
"""Most bytes of a message; what may be larger goes through the run folder."""

_CLAIM: Final = 10.0
"""Seconds until what a lost worker claimed is taken over."""


def environment() -> dict[str, str]:
    """What must be the same in all processes of a run: CLEAR's source, Python, and the packages."""
    about = installed({})
    return {"source of CLEAR": source_hash()[:12], "Python": about["python"], **about["packages"]}


def message(value: Any) -> str:
    """A value as JSON.

    Raises:
        ValueError: It has more than ``LIMIT`` bytes.
    """
    text = json.dumps(value)
    if len(text) > LIMIT:
        raise ValueError(f"a message of {len(text):,} bytes is larger than {LIMIT:,}")
    return text


def asking(carry: Callable[[str], str], folder: Path) -> Ask:
    """A worker's way to the broker in the driver's process, see ``tasks.language.broker``.

    Args:
        carry: Carries a message to ``answering`` there, and its answer back.
        folder: Where what is too large for a message lies meanwhile, e.g. pictures.
    """

    def ask(role: Role, messages: Sequence[Message], temperature: float, max_tokens: int, seed: int) -> Reply | Refused:
        said = [
            {**asdict(one), "pictures": [{**vars(p), "pixels": b64encode(p.pixels).decode()} for p in one.pictures]}
            for one in messages
        ]
        text = json.dumps([role, said, temperature, max_tokens, seed])
        large = len(text) > LIMIT
        path = folder / "asked" / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
        if large:
            atomic.write_bytes(path, text.encode(), durable=False)
        found = json.loads(carry(message({"file": str(path)} if large else {"asked": text})))
        return Refused(**found["refused"]) if "refused" in found else Reply(**found["reply"])

    return ask


def answering(broker: Broker, given: str) -> str:
    """What the driver answers to a message of ``asking``."""
    facts = json.loads(given)
    role, said, *rest = json.loads(facts["asked"] if "asked" in facts else Path(facts["file"]).read_bytes())
    messages = [
        Message(
            one["role"],
            one["content"],
            tuple(Picture(**{**picture, "pixels": b64decode(picture["pixels"])}) for picture in one["pictures"]),
        )
        for one in said
    ]
    found = broker.ask(role, messages, *rest)
    return message({"refused" if isinstance(found, Refused) else "reply": asdict(found)})


class Worker:
    """One process.

    Each method returns a JSON object: the answer, or instead ``wrong`` (a sentence for the user) or ``failed`` (any
    other error), since an exception may be one that cannot be read elsewhere.

    Args:
        name: Unique in the run.
        folder: The run folder.
        place: Working folder of the driver, from which paths in the options count.
        make_roles: See ``benchmark.execution.prepare.load_parts``.
        machine: Name of the machine for the engine.
        carry: See ``asking``; None lets this process ask language models itself.
    """

    def __init__(
        self,
        name: str,
        folder: str,
        place: str,
        make_roles: Callable[..., Roles],
        machine: str = "",
        carry: Callable[[str], str] | None = None,
    ) -> None:
        self.name, self.machine, self.place, self.make_roles = name, machine, place, make_roles
        self.folder = RunFolder(folder)
        self.shared = shared_folder(self.folder)
        if carry is not None:
            self.make_roles = partial(make_roles, ask=asking(carry, self.shared))

    def about(self, given: str) -> str:
        """What this process is; from now on it gives signs of life.

        Args:
            given: ``device`` (see ``RunOptions``), ``offline``, and ``lost_after``.

        Returns:
            ``host``, ``pid``, ``machine``, ``device`` (its kind) and ``environment``.
        """
        return _told(self._about, given)

    def prepare(self, given: str) -> str:
        """Prepare to do items; models are loaded when they are needed.

        Args:
            given: ``RunOptions``.

        Returns:
            Nothing.
        """
        return _told(self._prepare, given)

    def do(self, given: str) -> str:
        """Do an item and write what it makes to the run folder.

        Args:
            given: ``Item.facts``.

        Returns:
            ``seconds``, ``parked`` (see ``Outcome``), ``tally`` (images that each model received); or ``failed``.
        """
        return _told(self._do, given)

    def _about(self, given: Mapping[str, Any]) -> dict[str, Any]:
        host = socket.gethostname()
        if given["offline"]:
            go_offline()
        if not (self.folder.path / "run.json").is_file():
            raise UserError(f"{host} does not see the run folder {self.folder.path}: all machines must share it")
        try:
            os.chdir(self.place)
        except OSError as error:
            raise UserError(f"{host} lacks the folder {self.place}, where the run was started") from error
        _log_to(self.shared / "logs" / f"{self.name}.log")
        every = given["lost_after"] / (2 * (PATIENCE + 1))
        threading.Thread(target=self._beat, args=(every,), name="signs of life", daemon=True).start()
        device = device_kind(pick_device(given["device"]))
        where = {"host": host, "pid": os.getpid(), "machine": self.machine, "device": device}
        return where | {"environment": environment()}

    def _beat(self, every: float) -> None:
        beats, number = Beats(self.shared), 0
        while True:
            with contextlib.suppress(OSError):  # whoever cannot write there is lost
                beats.beat(self.name, number)
            number += 1
            time.sleep(every)

    def _prepare(self, given: Mapping[str, Any]) -> dict[str, Any]:
        options = RunOptions.model_validate(given)
        parts = load_parts(options, check(options), self.make_roles)
        if parts.roles.ask is not None:
            os.environ.update(dict.fromkeys(key_variables([parts.profile.summariser, parts.profile.describer]), ""))
        job = prepare(parts, Display("quiet"))
        other = differences(self.folder.info()["identity"], as_json(job.identity))
        if other:
            raise UserError(f"it finds other models or images than the driver ({'; '.join(other)})")
        self.folder.join(Leases(self.folder.path, _CLAIM))
        build_summariser(self.folder, job.prepared.works, job.prepared.methods, job.roles)
        self.session = Session(job, self.folder, StoredDrawings(self.folder))
        return {}

    def _do(self, given: Mapping[str, Any]) -> dict[str, Any]:
        item = Item.of(given)
        outcome = self.session.do(item)
        self.session.job.roles.cache.publish()  # to other hosts; this process may be killed at any time
        if outcome.failures:
            return {"failed": next(iter(outcome.failures.values()))}
        if outcome.labels:
            Blocks(self.folder).write(item, outcome)
        tally = getattr(self.session.job.roles, "tally", Counter())
        answer = {"seconds": outcome.seconds, "parked": outcome.parked, "tally": dict(tally)}
        tally.clear()
        return answer


def _told(work: Callable[[Mapping[str, Any]], Mapping[str, Any]], given: str) -> str:
    try:
        return message(work(json.loads(given)))
    except (UserError, StoreError) as error:
        return message({"wrong": str(error)})
    except MemoryError:
        raise  # another machine may have more
    except Exception as error:
        log.exception("a worker's call failed")
        return message({"failed": f"{type(error).__name__}: {error}"[:1000]})


def _log_to(path: Path) -> None:
    """From now on what this process says is appended to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
