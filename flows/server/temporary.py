"""The temporary Prefect server of a command: it ends with the command, and restarts if it is lost.

The command holds the server's listening socket. So a request during a restart waits, and Prefect's clients retry
requests that were cut off.
"""

import atexit
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tailforge.flows.server.local_prefect import API, CONSOLE_LEVEL, require_home
from tailforge.flows.terminal.heartbeat import say
from tailforge.flows.terminal.stopping import is_ending, stop
from tailforge.schemas.errors import OrchestrationError

if TYPE_CHECKING:
    from prefect.settings.models.server.ephemeral import ServerEphemeralSettings

APPLICATION = "prefect.server.api.server:create_app"
EPHEMERAL = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    CONSOLE_LEVEL: "ERROR",  # nobody sees the server's log; a failed start is explained from it
}
MOST_LOST = 3
PATIENCE_S = 180.0  # for a start; Prefect's default of 20 s is too short on a busy machine
LONG_LIVED_S = 600.0  # after this life the count of losses starts again
TOLD = 20_000  # bytes to read at the end of a server's log; an error quotes one line
# The line of a traceback that names the exception. The log goes on after it, with SQL and with uvicorn's own line.
EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception)\b.*", re.MULTILINE)

_running: "TemporaryServer | None" = None


@contextmanager
def open_server() -> Iterator[None]:
    """Provide a Prefect server for this process and its children: that of PREFECT_API_URL, or a temporary one.

    Errors: OrchestrationError if the given server does not answer, or none can be started.
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
    os.environ[API] = address  # otherwise each worker process would start its own server
    try:
        with server_errors(address), temporary_settings({PREFECT_API_URL: address}):
            yield
    finally:
        del os.environ[API]


@contextmanager
def server_errors(address: str) -> Iterator[None]:
    """Turn a failure to reach a server into an error that says what to do. Errors: OrchestrationError."""
    try:
        yield
    except Exception as error:
        if not is_of_server(error, address):
            raise
        raise does_not_answer(address, error) from error


def does_not_answer(address: str, error: Exception) -> OrchestrationError:
    """Return the error for a server that does not answer."""
    return OrchestrationError(
        f"the Prefect server at {address} does not answer: {error or type(error).__name__}; start it, or correct or "
        f"unset {API}, and run the same command again; finished work is kept"
    )


def is_of_server(error: Exception, address: str) -> bool:
    """Return whether an error comes from a request to a server: the client's own error, or Prefect's version of it."""
    try:
        asked = str(error.request.url)  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):  # most errors of the client name their request
        return isinstance(error, RuntimeError) and "reach API" in str(error)
    return asked.startswith(address)


def start_once() -> str:
    """Return the address of this process's server. The server lives until exit, since Prefect uses it until then."""
    global _running
    if _running is None:
        _running = TemporaryServer()
        atexit.register(_running.stop)
    return _running.address


def start_patience(ephemeral: "ServerEphemeralSettings") -> float:
    """Return how long a start may take, in seconds: the user's setting, or PATIENCE_S."""
    given = "startup_timeout_seconds" in ephemeral.model_fields_set
    return float(ephemeral.startup_timeout_seconds) if given else PATIENCE_S


class TemporaryServer:
    """A Prefect server without pages or schedules, watched until `stop`. Errors: OrchestrationError."""

    def __init__(self) -> None:
        from prefect.settings import get_current_settings

        settings = get_current_settings()
        require_home(settings.home)
        self.home = settings.home
        self.patience_s = start_patience(settings.server.ephemeral)
        self.environment = os.environ | settings.to_environment_variables(exclude_unset=True) | EPHEMERAL
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}/api"

        self.stopping = False
        self.lost = 0
        started = self._start()
        if isinstance(started, str):
            raise OrchestrationError(
                f"no Prefect server could be started in PREFECT_HOME {self.home}: {started}; repair that, or set {API} "
                "to a server that runs, and run the same command again"
            )

        self.process = started
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """Kill the server and close its socket."""
        self.stopping = True
        self.process.kill()  # its database outlives a kill
        self.process.wait()
        self.socket.close()

    def _start(self) -> subprocess.Popen[bytes] | str:
        """Return the process once it answers, or the reason for its failure."""
        program, number = Path(__file__).with_name("owned_uvicorn.py"), self.socket.fileno()
        began = time.monotonic()
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                [sys.executable, "-P", str(program), str(number), APPLICATION, str(self.home)],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                pass_fds=[number],
                start_new_session=True,  # keep the terminal's ctrl-C away
            )

            if is_ready(process, self.patience_s):
                return process
            waited_s = time.monotonic() - began
            is_late = waited_s >= self.patience_s
            if is_late:
                process.kill()
            code = process.wait()
            what = "did not answer in" if is_late else f"ended (exit code {code}) after"
            said.seek(0)
            reason = find_reason(said.read()[-TOLD:].decode(errors="replace"))
        return ": ".join([f"it {what} {waited_s:.0f} s", *reason])

    def _watch(self) -> None:
        """Replace the server whenever it ends."""
        while True:
            started = time.monotonic()
            code = self.process.wait()
            if self.stopping or is_ending():
                return
            if time.monotonic() - started > LONG_LIVED_S:
                self.lost = 0
            self.process = self._replace(f"the Prefect server of this command was lost (exit code {code})")

    def _replace(self, lost: str) -> subprocess.Popen[bytes]:
        """Start another server on the same socket; end the command after too many losses."""
        while True:
            self.lost += 1
            if self.lost > MOST_LOST:
                mend = "look for what ends it (memory: `dmesg`); finished work is kept: run the same command to go on"
                stop(1, f"error: {lost}, {self.lost} times; {mend}")
            say(f"{lost}; starting another one")
            started = self._start()
            if not isinstance(started, str):
                return started
            lost = f"the Prefect server of this command was lost during its start: {started}"


def find_reason(log: str) -> list[str]:
    """Return the line of a server's log that names its last exception, else the last line; nothing for an empty log."""
    return EXCEPTION.findall(log)[-1:] or log.strip().splitlines()[-1:]


def is_ready(process: subprocess.Popen[bytes], patience_s: float) -> bool:
    """Return whether a server announces in time that it answers; False as soon as it ends."""
    heard: list[bytes] = []

    def listen(out: IO[Any]) -> None:
        """Read the server's first line."""
        heard.append(out.readline())

    assert process.stdout is not None
    listening = threading.Thread(target=listen, args=(process.stdout,), daemon=True)
    listening.start()
    listening.join(patience_s)
    return bool(heard and heard[0])
