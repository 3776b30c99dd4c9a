"""Workers as actors of Ray; the only importer of ``ray``, which is an extra.

Ray starts the workers and carries small texts; nothing else is left to it: no retries, no restarts, no objects.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from benchmark.core.budget import TimeBudget
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.execution import driver
from benchmark.execution.session import Session
from benchmark.execution.worker import Worker
from tasks.common.errors import UserError

_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_raylet_start_wait_time_s": "180",  # a busy machine takes longer than the 30 that it gets by default
    # A machine that is gone is told after 20 seconds instead of 65.
    **{f"RAY_health_check_{name}_ms": "5000" for name in ("initial_delay", "period", "timeout")},
    "RAY_health_check_failure_threshold": "3",
}

_AT_ONCE: Final = 16
"""Most requests to a language model at the same time."""

_LAST_MAIL: Final = 5.0
"""Most seconds to wait at the end for threads that wait for Ray; those that wait for a language model do no harm."""

_STORE: Final = 80 * 2**20
"""Bytes of the object store, about the least that Ray takes."""


def require_ray() -> None:
    """Refuse to go on without the package.

    Raises:
        UserError: It is not installed.
    """
    if find_spec("ray") is None:
        raise UserError(
            '--executor ray needs the extra ray, which is not installed: pip install "clear-benchmark[ray]"'
        )


def do_all(session: Session, display: Display, budget: TimeBudget) -> list[str]:
    """Compute all cells on a Ray cluster; see ``benchmark.execution.driver.do_all``."""
    return driver.do_all(session, display, budget, connected)


@contextlib.contextmanager
def connected(options: RunOptions, display: Display) -> Iterator[_Ray]:
    """While the block runs, this process is connected to the cluster of the options, or to one that is started for it.

    Raises:
        UserError: It cannot be reached or started.
    """
    chosen: dict[str, Any] = {"address": options.ray_address}
    if options.ray_address is None:
        place = _private_folder()
        os.environ.update(_ENVIRONMENT | {"RAY_AUTH_TOKEN_PATH": str(place / "token")})
        cpus = max((options.workers or 1) * options.cpus_per_worker, os.cpu_count() or 1)
        chosen = {"address": "local", "num_cpus": cpus, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        # Not the private folder itself: Ray lets everybody write into the one that it is given.
        chosen |= {"object_store_memory": _STORE, "_temp_dir": str(place / "r")}
    elif os.environ.get("RAY_AUTH_MODE") != "token":
        display.warning("RAY_AUTH_MODE is not token: whoever reaches the ports of this cluster can run code on it.")
    if options.ray_address not in (None, "auto"):
        _reach(options.ray_address)
    import ray  # reads its settings from the environment when it is imported

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **chosen)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"Ray cannot be used at {chosen['address']}: {reason}") from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)  # Ray's own would end the process without a word
    try:
        with contextlib.closing(_Ray(options)) as engine:
            yield engine
    finally:
        ray.shutdown()


class _Mail:
    """An actor between workers, which cannot call the driver, and the driver, which asks for what they want."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self.answers: dict[int, asyncio.Future[str]] = {}
        self.count = 0

    async def ask(self, text: str) -> str:
        """For a worker: the answer."""
        self.count += 1
        number, self.answers[number] = self.count, asyncio.get_running_loop().create_future()
        await self.asked.put((number, text))
        return await self.answers[number]

    async def take(self) -> tuple[int, str]:
        """For the driver: the next message."""
        return await self.asked.get()

    async def give(self, number: int, text: str) -> None:
        """For the driver: the answer to a message."""
        self.answers.pop(number).set_result(text)


class _Ray:
    """See ``benchmark.execution.driver.Engine``."""

    def __init__(self, options: RunOptions) -> None:
        import ray
        from ray.exceptions import RayError

        class Actor(Worker):
            def __init__(self, mail: Any, *given: Any) -> None:
                machine = ray.get_runtime_context().get_node_id()
                carry: Any = mail and (lambda text: ray.get(mail.ask.remote(text)))
                super().__init__(*given, machine=machine, carry=carry)

        self._ray, self._error = ray, RayError
        there, cpus = ray.cluster_resources(), options.cpus_per_worker
        gpus = options.gpus_per_worker or (1.0 if there.get("GPU") else 0.0)
        places = there.get("GPU", 0.0) / gpus if gpus else there.get("CPU", 0.0) / cpus
        self.places = options.workers or max(1, int(places))
        needed = {"num_cpus": cpus, "num_gpus": gpus, "scheduling_strategy": "SPREAD"}
        self._actor = ray.remote(max_restarts=0, max_task_retries=0, **needed)(Actor)
        self._actors: dict[str, Any] = {}
        self._calls: dict[Any, str] = {}
        self._mail: Any = None
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()

    def serve(self, answer: Callable[[str], str]) -> None:
        """See ``Engine``."""
        mail = self._ray.remote(num_cpus=0, max_concurrency=self.places + 2 * _AT_ONCE)(_Mail)
        self._mail = mail.options(
            label_selector={"ray.io/node-id": self._ray.get_runtime_context().get_node_id()}
        ).remote()
        for _ in range(_AT_ONCE):
            thread = threading.Thread(target=self._answer_mail, args=(answer,), name="language model", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """End the mail: a thread that is in a call of Ray when Ray is shut down may take the process along."""
        self._closed.set()
        if self._mail is not None:
            self._ray.kill(self._mail)
        until = time.monotonic() + _LAST_MAIL
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def start(self, worker: str, *given: Any) -> None:
        """See ``Engine``."""
        self._actors[worker] = self._actor.remote(self._mail, worker, *given)

    def call(self, worker: str, what: str, given: str) -> None:
        """See ``Engine``."""
        self._calls[getattr(self._actors[worker], what).remote(given)] = worker

    def answers(self, seconds: float) -> list[tuple[str, str]]:
        """See ``Engine``."""
        ready, _ = self._ray.wait(list(self._calls), timeout=seconds)
        if ready:  # and perhaps others
            ready, _ = self._ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        return [(self._calls.pop(call), self._answer(call)) for call in ready]

    def end(self, worker: str) -> None:
        """See ``Engine``."""
        self._ray.kill(self._actors.pop(worker))
        self._calls = {call: other for call, other in self._calls.items() if other != worker}

    def lost_machines(self) -> set[str]:
        """See ``Engine``."""
        return {node["NodeID"] for node in self._ray.nodes() if not node["Alive"]}

    def _answer_mail(self, answer: Callable[[str], str]) -> None:
        with contextlib.suppress(self._error, RuntimeError):  # the run has ended
            while not self._closed.is_set():
                number, text = self._ray.get(self._mail.take.remote())
                answered = answer(text)
                if not self._closed.is_set():
                    self._mail.give.remote(number, answered)

    def _answer(self, call: Any) -> str:
        try:
            return self._ray.get(call)
        except self._error:
            return ""


def _reach(address: str) -> None:
    """Try to connect: where nobody listens, Ray would end the process."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise UserError(f"Ray cannot be used at {address}: {error}") from error


@cache
def _private_folder() -> Path:
    """A folder of this process that nobody else can read, with a token in it; removed when the process ends.

    Its name is short, because the names of sockets, which lie below it, must be: 107 characters at most.
    """
    usual = tempfile.gettempdir()
    place = os.environ.get("RAY_TMPDIR") or (usual if len(usual) <= 26 else "/tmp")  # noqa: S108 - made with mkdtemp
    made = tempfile.TemporaryDirectory(prefix="clear-", dir=place, ignore_cleanup_errors=True)
    atexit.register(made.cleanup)
    token = Path(made.name, "token")
    token.touch(0o600)
    token.write_text(secrets.token_hex(32), encoding="ascii")
    return token.parent
