"""The Prefect server of a command that is given none: it ends with the command, and is started again if it is lost.

The command holds the socket on which the server listens. So a request that comes while a lost server is started again
waits, and Prefect's clients, which try again what was cut off, go on.
"""

import atexit
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tailforge.flows.server.local_prefect import API, require_home
from tailforge.flows.terminal.heartbeat import say
from tailforge.flows.terminal.stopping import is_ending, stop
from tailforge.schemas.errors import OrchestrationError

APPLICATION = "prefect.server.api.server:create_app"
EPHEMERAL = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
MOST_LOST = 3
LONG_LIVED_S = 600.0  # one that lived so long was not lost for the reason of the last
TOLD = 2000  # bytes at the end of what a server said; its last line is passed on

_running: "TemporaryServer | None" = None


@contextmanager
def open_server() -> Iterator[None]:
    """A Prefect server for this process and those it starts, while this lasts: that of PREFECT_API_URL if it is set.

    Errors: OrchestrationError if none can be started, or that one does not answer.
    """
    if given := os.environ.get(API):
        from tailforge.flows.server.access import ask_health

        with server_errors(given):
            if error := ask_health(given):
                raise does_not_answer(given, error) from error
            yield
        return
    from prefect.settings import PREFECT_API_URL, temporary_settings

    address = start_once()
    os.environ[API] = address  # without it worker processes would each start a server of their own
    try:
        with server_errors(address), temporary_settings({PREFECT_API_URL: address}):
            yield
    finally:
        del os.environ[API]


@contextmanager
def server_errors(address: str) -> Iterator[None]:
    """Turn the failure to reach a server into an error that says what to do. Errors: OrchestrationError."""
    try:
        yield
    except Exception as error:
        if not is_of_server(error, address):
            raise
        raise does_not_answer(address, error) from error


def does_not_answer(address: str, error: Exception) -> OrchestrationError:
    """What to say of a server that cannot be reached."""
    return OrchestrationError(
        f"the Prefect server at {address} does not answer: {error or type(error).__name__}; start it, or correct or "
        f"unset {API}, and run the same command again; finished work is kept"
    )


def is_of_server(error: Exception, address: str) -> bool:
    """Whether an error is of a request to a server: the client's own, or what Prefect makes of it."""
    try:
        asked = str(error.request.url)  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):  # the client's errors know their request, but for some
        return isinstance(error, RuntimeError) and "reach API" in str(error)
    return asked.startswith(address)


def start_once() -> str:
    """The address of this process's server. It lives as long as the process, since Prefect speaks last at the exit."""
    global _running
    if _running is None:
        _running = TemporaryServer()
        atexit.register(_running.stop)
    return _running.address


class TemporaryServer:
    """A Prefect server without pages or schedules, watched until `stop`. Errors: OrchestrationError."""

    def __init__(self) -> None:
        from prefect.settings import get_current_settings

        settings = get_current_settings()
        require_home(settings.home)
        self.home = settings.home
        self.patience_s = settings.server.ephemeral.startup_timeout_seconds
        self.environment = os.environ | EPHEMERAL | settings.to_environment_variables(exclude_unset=True)
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}/api"
        self.stopping = False
        self.lost = 0
        started = self._start()
        if isinstance(started, str):
            raise OrchestrationError(
                f"no Prefect server could be started in PREFECT_HOME {self.home}: {started}; mend that, or set {API} "
                "to a server that runs, and run the same command again"
            )
        self.process = started
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        self.stopping = True
        self.process.kill()  # whatever must last is in its database, which outlives a kill
        self.process.wait()
        self.socket.close()

    def _start(self) -> subprocess.Popen[bytes] | str:
        """The process when it answers; why there is none if it ends, or does not answer in time."""
        program, number = Path(__file__).with_name("owned_uvicorn.py"), self.socket.fileno()
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                [sys.executable, "-P", str(program), str(number), APPLICATION],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                pass_fds=[number],
                start_new_session=True,  # a terminal's ctrl-C is not for it
            )
            if is_ready(process, self.patience_s):
                return process
            late = process.poll() is None
            process.kill()
            code = process.wait()
            what = f"it did not answer in {self.patience_s:.0f} s" if late else f"it ended (exit code {code})"
            said.seek(0)
            last = said.read()[-TOLD:].decode(errors="replace").strip().splitlines()[-1:]
        return ": ".join([what, *last])

    def _watch(self) -> None:
        while True:
            started = time.monotonic()
            code = self.process.wait()
            if self.stopping or is_ending():
                return
            if time.monotonic() - started > LONG_LIVED_S:
                self.lost = 0
            self.process = self._replace(f"the Prefect server of this command was lost (exit code {code})")

    def _replace(self, lost: str) -> subprocess.Popen[bytes]:
        """Another server on the same socket; the command ends where servers are lost again and again."""
        while True:
            self.lost += 1
            if self.lost > MOST_LOST:
                mend = "look for what ends it (memory: `dmesg`); finished work is kept: run the same command to go on"
                stop(1, f"error: {lost}, {self.lost} times; {mend}")
            say(f"{lost}; another one is started")
            started = self._start()
            if not isinstance(started, str):
                return started
            lost = f"the Prefect server of this command was lost while it was started: {started}"


def is_ready(process: subprocess.Popen[bytes], patience_s: float) -> bool:
    """Whether a server says in time that it answers; False as soon as it ends."""
    heard: list[bytes] = []

    def listen(out: IO[Any]) -> None:
        heard.append(out.readline())

    assert process.stdout is not None
    listening = threading.Thread(target=listen, args=(process.stdout,), daemon=True)
    listening.start()
    listening.join(patience_s)
    return bool(heard and heard[0])
