"""A real Ray cluster on one machine: a head that runs nothing, and worker nodes that can be killed.

Each node is `ray start --block` with all that it starts; nothing outlives the context. No dashboard, no telemetry,
small object stores, everything in one folder whose path must be short, since sockets lie in it.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

STARTS_S = 120.0
MEMORY = str(80 * 1024 * 1024)  # of a node's object store, in bytes: the smallest that Ray takes is 75 MB
# Unauthenticated, as it is bound to this machine; a killed node is noticed after a second or two, not after fifteen.
SETTINGS = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}


class RayCluster:
    """A head at `address` and as many worker nodes as are added. `resources` are words of `ray start`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        self.address = f"127.0.0.1:{free_port()}"
        self.nodes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "RayCluster":
        words = ["--head", "--port", self.address.rpartition(":")[2], "--num-cpus", "0", "--include-dashboard", "false"]
        words += ["--ray-client-server-port", str(free_port()), "--temp-dir", str(self.folder / "t")]
        try:
            self._start(*words)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for node in reversed(self.nodes):
            kill_tree(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    def add_workers(self, count: int, *resources: str) -> list[subprocess.Popen[bytes]]:
        """Start nodes that work, one after another: at once they take each other's names. `kill_tree` loses one."""
        words = ("--address", self.address, *(resources or ("--num-cpus", "1")))
        return [self._start(*words) for _ in range(count)]

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        ports = ["--min-worker-port", "0", "--max-worker-port", "0"]
        ports += ["--dashboard-agent-listen-port", str(free_port())]
        quiet = ["--include-log-monitor", "false", "--disable-usage-stats", "--object-store-memory", MEMORY]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *words, *ports, *quiet]
        log = self.folder / f"node-{len(self.nodes)}.log"
        with log.open("wb") as out:
            node = subprocess.Popen(
                command, env=os.environ | SETTINGS, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.nodes.append(node)
        wait_for_start(node, log)
        return node


def wait_for_start(node: subprocess.Popen[bytes], log: Path) -> None:
    """Until the node says that it has started. Errors: AssertionError with what it said instead."""
    until = time.monotonic() + STARTS_S
    while "Ray runtime started" not in (said := log.read_text(errors="replace")):
        assert node.poll() is None, f"a Ray node ended at once:\n{said}"
        assert time.monotonic() < until, f"a Ray node did not start within {STARTS_S} s:\n{said}"
        time.sleep(0.2)


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a process and all that it started."""
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(process.pid).children(recursive=True)
        for each in [*started, psutil.Process(process.pid)]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
