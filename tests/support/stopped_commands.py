"""Commands as processes of their own that are stopped as a terminal or a service manager stops them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from tests.support.repository import ROOT
from tests.support.workers import ONE_THREAD

HANGS_S = 400.0
STOPPED = "stopped; finished work is kept; run the same command to go on"


@dataclass
class Started:
    """A running `tailforge`, in a session of its own, and the lines that it has written so far."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)  # type: ignore[no-any-return]

    def wait_for(self, what: Callable[[], object]) -> None:
        """Until something holds. Errors: AssertionError if the command ends before."""
        until = time.monotonic() + HANGS_S
        while not what():
            assert self.process.poll() is None, f"the command ended too early: {self.lines} {self.printed}"
            assert time.monotonic() < until, self.lines
            time.sleep(0.01)

    def end(self) -> int:
        """The exit code, when all that the command and its children could write is read."""
        try:
            code = self.process.wait(timeout=HANGS_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
        for reader in self.readers:
            reader.join(timeout=60)
        return code

    def __post_init__(self) -> None:
        def read(stream: IO[str], lines: list[str]) -> None:
            with stream:
                for line in stream:
                    lines.append(line.rstrip("\n"))

        pairs = ((self.process.stderr, self.lines), (self.process.stdout, self.printed))
        self.readers = [threading.Thread(target=read, args=pair, daemon=True) for pair in pairs]
        for reader in self.readers:
            reader.start()


def start_command(*words: str | Path, cwd: Path = ROOT, env: Mapping[str, str] = ONE_THREAD) -> Started:
    """`tailforge ...`, which hears ctrl-C even where the test run does not."""
    return Started(
        subprocess.Popen(
            [sys.executable, "-m", "tailforge", *map(str, words)],
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}"} | env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    )


def require_stopped(command: Started, number: signal.Signals, *, group: bool = False, twice: bool = False) -> None:
    """Stop a command, as a terminal does with `group`, and see that it says one line and that nothing is left of it."""
    children = command.children()
    before = len(command.lines)
    for _ in range(1 + twice):
        os.killpg(command.process.pid, number) if group else os.kill(command.process.pid, number)
    assert command.end() == 128 + number
    added = command.lines[before:]
    assert added[-1:] == [STOPPED], added
    assert not [line for line in added if "rror" in line or "Traceback" in line], added
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert command.printed == []
