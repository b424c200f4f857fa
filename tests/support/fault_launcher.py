"""Starts `tailforge` as real processes in which a trap is set: the store's n-th operation kills, fails or waits.

Importing torch costs seconds, so processes are forked from one that has imported everything (multiprocessing's
forkserver): a process of its own each, with its own memory, threads and end. Operations are heard by an audit hook, so
whatever opens, renames or links a file in the store is met, be it ours or a library's; only syncs are wrapped.
"""

import errno
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import time_machine

from tailforge.flows.server.local_prefect import configure_prefect

RETRY_SECONDS = [0.1, 0.3, 1.0]  # instead of STAGE_TASK's, which would fill the time with waiting
LATE_SECONDS = 0.4
MEETING_SECONDS = 10
ARTIFACTS, DATASETS, PUBLICATION = "artifacts", "datasets", "publication"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # and no thread is there when processes are forked


@dataclass(frozen=True)
class Trap:
    """What happens at the `nth` operation of a stage (fault_schedules.py names both), and again afterwards.

    Actions: `die` at once, `die_late` some moments after, `fail` with `error` (with `lasting` at every later operation
    of the store, too), `jump` (the clock, by `seconds`), `meet` (wait for the other build). `marker` is made as it
    happens; builds that meet share it.
    """

    stage: str
    operation: str
    nth: int
    marker: Path
    action: str
    error: int = errno.EIO
    lasting: bool = False
    seconds: float = 0
    late: float = 0.5  # share of LATE_SECONDS


@dataclass(frozen=True)
class Orders:
    """How one process is to be started: `ahead` is what its clock is ahead of the true one, in seconds."""

    store: Path
    log: Path
    out: Path
    traps: tuple[Trap, ...] = ()
    ahead: float = 0
    counts: Path | None = None  # where to write how often every operation was met


class Traps:
    """Hears of the operations of this process on a store, counts them and springs the traps."""

    def __init__(self, orders: Orders) -> None:
        self.root, self.traps = f"{orders.store}/", orders.traps
        self.counts: Counter[str] = Counter()
        self.failing: int | None = None
        self.clock: Any = None
        self.lock = threading.RLock()
        if orders.ahead or any(trap.action == "jump" for trap in orders.traps):
            moment = datetime.now(UTC) + timedelta(seconds=orders.ahead)
            self.clock = time_machine.travel(moment, tick=True).start()

    def install(self) -> None:
        """For good: an audit hook cannot be removed."""
        sync = os.fsync

        def heard_sync(descriptor: Any) -> None:
            self.meet("sync", os.readlink(f"/proc/self/fd/{descriptor}"), descriptor)
            sync(descriptor)

        os.fsync = heard_sync  # type: ignore[assignment]
        sys.addaudithook(self.hear)

    def hear(self, event: str, words: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = words
            writes = set(mode) & set("wax+") if mode else flags & (os.O_WRONLY | os.O_RDWR)
            self.meet("write" if writes else "read", path)
        elif event in ("os.rename", "os.link"):
            self.meet("rename", words[1])
        elif event in ("os.listdir", "os.scandir"):
            self.meet("read", words[0])

    def meet(self, operation: str, path: Any, descriptor: int | None = None) -> None:
        """Errors: OSError where a trap says so."""
        if not isinstance(path, str) or (stage := self._stage_of(path)) is None:
            return
        if self.failing is not None:
            raise OSError(self.failing, os.strerror(self.failing), path)
        with self.lock:
            self.counts[f"{stage}/{operation}"] += 1
            count = self.counts[f"{stage}/{operation}"]
        for trap in self.traps:
            if (trap.stage, trap.operation, trap.nth) == (stage, operation, count):
                self._spring(trap, path, descriptor)

    def _stage_of(self, path: str) -> str | None:
        if not path.startswith(self.root):
            return None
        room, _, rest = path.removeprefix(self.root).partition("/")
        return PUBLICATION if room == DATASETS else rest.partition("/")[0] if room == ARTIFACTS else None

    def _spring(self, trap: Trap, path: str, descriptor: int | None) -> None:
        Path(f"{trap.marker}-{os.getpid()}").touch()
        if trap.action == "die":
            if descriptor is not None:  # what was not synced need not be there
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        elif trap.action == "die_late":
            threading.Timer(trap.late * LATE_SECONDS, os.kill, (os.getpid(), signal.SIGKILL)).start()
        elif trap.action == "fail":
            self.failing = trap.error if trap.lasting else None
            if descriptor is not None:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            raise OSError(trap.error, os.strerror(trap.error), path)
        elif trap.action == "jump":
            self.clock.shift(trap.seconds)
        elif trap.action == "meet":
            self._wait_for_the_other(trap)

    def _wait_for_the_other(self, trap: Trap) -> None:
        until = time.monotonic() + MEETING_SECONDS
        while len(list(trap.marker.parent.glob(f"{trap.marker.name}-*"))) < 2 and time.monotonic() < until:
            time.sleep(0.005)


def import_all() -> None:
    """All that a build uses, in the process that others are forked from."""
    configure_prefect()
    from tailforge.tasks.stages.retry_rule import STAGE_TASK

    STAGE_TASK["retry_delay_seconds"] = RETRY_SECONDS
    import albumentations  # noqa: F401
    import s3fs  # noqa: F401
    import webdataset  # noqa: F401

    import tests.support.tiny_generators  # noqa: F401


def run_command(words: Sequence[str], orders: Orders, environment: Mapping[str, str]) -> None:
    """`tailforge <words>` in this process, which is a new one, with its traps set."""
    os.environ.update(environment)
    for path, number in ((orders.out, 1), (orders.log, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    traps = Traps(orders)
    traps.install()
    from tailforge.flows.cli.commands import main

    sys.argv = ["tailforge", *words]
    try:
        main()
    finally:
        sys.stdout.flush()
        if orders.counts is not None:
            orders.counts.write_text("\n".join(f"{name} {count}" for name, count in traps.counts.items()))


class Launcher:
    """Starts processes that are all forked from one, which lives as long as this process.

    That one imports Prefect, which reads its settings then: later launchers cannot name another Prefect server.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.support.fault_preload"])
        with patch.dict(os.environ, self.environment | ONE_THREAD):
            forkserver.ensure_running()

    def start(self, words: Sequence[str], orders: Orders) -> ForkServerProcess:
        process = self.context.Process(target=run_command, args=(words, orders, self.environment))
        process.start()
        return process


def read_counts(path: Path) -> Mapping[str, int]:
    """What `Orders.counts` was written to."""
    pairs = (line.rsplit(" ", 1) for line in path.read_text().splitlines())
    return {name: int(count) for name, count in pairs}
