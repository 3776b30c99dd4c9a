"""Two Ray nodes as processes of this machine, with a place for one worker each.

Run as a script: prints the address and the process ids of both nodes as JSON, and ends when its input ends. A module of
its own provides a method that takes its time, and says so, to the processes that are started there.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
STORE = 80 * 2**20

SLOW = '''
import os, time
from baselines.base import Label, UnitLabels

class Slow:
    """Labels each unit by its number, after a while."""
    name, version, needs = "slow", "1", frozenset()

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds

    def label(self, observation, units, tools):
        with open(os.environ["SLOW_LOG"], "a") as file:
            file.write(f"{time.time()} {os.getpid()} {observation.condition} {observation.repeat}\\n")
        time.sleep(self.seconds)
        return [UnitLabels(unit, (Label(f"{observation.condition} {unit}", 1.0),)) for unit in units]
'''


@dataclass
class Nodes:
    """Two nodes; the first is the head.

    Attributes:
        raylets: Process id of each.
        environment: For processes that join them.
    """

    address: str
    raylets: list[int]
    environment: dict[str, str]
    slow_log: Path


def environment(place: Path) -> dict[str, str]:
    """Variables of a process that uses Ray: its home and its plugins are in a folder."""
    plugin = place / "plugin"
    (plugin / "slow-1.dist-info").mkdir(parents=True, exist_ok=True)
    (plugin / "slow_method.py").write_text(SLOW)
    (plugin / "slow-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1\n")
    (plugin / "slow-1.dist-info/entry_points.txt").write_text("[clear.methods]\nslow = slow_method:Slow\n")
    (place / "home").mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {
        "HOME": str(place / "home"),
        "PYTHONPATH": f"{plugin}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "SLOW_LOG": str(place / "slow.log"),
    }


@contextlib.contextmanager
def two_nodes(place: Path) -> Iterator[Nodes]:
    """While the block runs, both nodes run.

    Args:
        place: A folder for logs, the token and what ``environment`` needs.
    """
    token = place / "token"
    token.touch(0o600)
    token.write_text("7" * 64)
    # The names of sockets must be short.
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as short:
        given = environment(place) | {
            "RAY_TMPDIR": short,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "180",  # a busy machine takes its time
        }
        with open(place / "nodes.log", "w") as log:
            process = subprocess.Popen(
                [sys.executable, __file__], env=given, cwd=place, text=True, stderr=log,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("{"):
                break
        assert lines, (place / "nodes.log").read_text()
        try:
            yield Nodes(**json.loads(lines[-1]), environment=given, slow_log=place / "slow.log")
        finally:
            process.communicate("", timeout=60)


if __name__ == "__main__":
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE})
    nodes = [cluster.head_node, cluster.add_node(num_cpus=1, object_store_memory=STORE)]
    cluster.wait_for_nodes()
    pids = [node.all_processes["raylet"][0].process.pid for node in nodes]
    print(json.dumps({"address": cluster.address, "raylets": pids}), flush=True)
    sys.stdin.read()
    cluster.shutdown()
