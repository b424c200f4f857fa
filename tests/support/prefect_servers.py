"""A Prefect server and its workers as users run them: processes of their own, started by the documented commands."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.postgres import free_port
from tests.support.repository import ROOT

PROGRAMS = Path(sys.executable).parent
PATIENCE_S = 400.0


def wait_for(what: str, ready: Callable[[], Any]) -> Any:
    """The first value of `ready` that is true."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.3)
    pytest.fail(f"{what} did not come about in {PATIENCE_S:.0f} s")


def ask(address: str, body: Any = None) -> Any:
    """The JSON that an address of the server answers: to a POST of `body`, or to a GET without one."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@dataclass(frozen=True)
class Running:
    """A process that the test started, with what it prints."""

    process: subprocess.Popen[bytes]
    log: Path

    def kill_all(self) -> None:
        """SIGKILL as when a machine dies: to the program first, which could report what it started, then to those."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for child in children:
            child.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not heard."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill_all()


@contextmanager
def start(words: list[str], environment: dict[str, str], log: Path) -> Iterator[Running]:
    """A program of the virtual environment, stopped at the end if it still runs."""
    with log.open("ab") as out:
        process = subprocess.Popen([str(PROGRAMS / words[0]), *words[1:]], env=environment, stdout=out, stderr=out)
    running = Running(process, log)
    try:
        yield running
    finally:
        if process.poll() is None:
            running.stop()


@dataclass(frozen=True)
class Server:
    """A server's address and the environment in which commands find it."""

    api: str
    environment: dict[str, str]
    folder: Path

    def run(self, *words: str, **more: str) -> str:
        """What a command prints that succeeds."""
        command = [str(PROGRAMS / words[0]), *words[1:]]
        made = subprocess.run(
            command, cwd=ROOT, env=self.environment | more, capture_output=True, text=True, timeout=300
        )
        assert made.returncode == 0, made.stdout + made.stderr
        return made.stdout

    @contextmanager
    def worker(self, pool: str = "cpu", **more: str) -> Iterator[Running]:
        """A worker of a pool that asks for work every second; yields when the server knows it."""
        name = f"worker-{time.monotonic_ns()}"
        words = ["prefect", "worker", "start", "--pool", pool, "--name", name]
        quick = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
        with start(words, self.environment | quick | more, self.folder / "worker.log") as running:

            def known() -> bool:
                assert running.process.poll() is None, running.log.read_text()
                found = ask(f"{self.api}/work_pools/{pool}/workers/filter", {})
                return name in [worker["name"] for worker in found]

            wait_for("the worker", known)
            yield running


@contextmanager
def run_server(database: str, folder: Path, programs: Path = PROGRAMS, **settings: str) -> Iterator[Server]:
    """`prefect server start` on a database (its SQLAlchemy address), with a home of its own in `folder`."""
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    mine = os.environ | {"PREFECT_HOME": str(folder / "home")} | settings
    on_server = mine | {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database}
    words = [str(programs / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with start(words, on_server, folder / "server.log") as running:

        def answers() -> bool:
            assert running.process.poll() is None, running.log.read_text()
            try:
                return bool(ask(f"{api}/health"))
            except OSError:
                return False

        wait_for("the server", answers)
        yield Server(api, mine | {"PREFECT_API_URL": api}, folder)
