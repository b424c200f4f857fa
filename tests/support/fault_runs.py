"""Runs a schedule of faults: builds in real processes, each but the last ones disturbed, and what came of them.

After the faults the same command is given until it exits 0. What was damaged after its publication is mended as the
documentation says: `verify` finds it, `rerun --stage shards` makes it anew. Then the invariants of
tests/support/fault_invariants.py must hold, and one more build must find nothing to do.
"""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psutil

from tailforge.catalog.registry import DATASETS, list_versions
from tailforge.catalog.store import Store
from tailforge.catalog.temporaries import TEMPORARY
from tests.support.fault_invariants import Expected, describe, find_half_published, find_problems
from tests.support.fault_launcher import LATE_SECONDS, Launcher, Orders, Trap, read_counts
from tests.support.fault_schedules import STAGES, Fault, Schedule
from tests.support.tiny_recipes import write_recipe

NAME, VERSION = "tiny", "1.0.0"
BUILD = ("build",)
WITH_WORKERS = ("build", "--runner", "processes", "--workers", "2")
POLL_SECONDS = 0.02
MOST_TRIES = 6
HANGS_SECONDS = 300
ROOM = 64 * 2**20  # bytes of a disk that is large enough
PAGE = 4096
RIVAL_AHEAD_SECONDS = 2 * 24 * 3600
MOST_SHIFT_SECONDS = 3 * 24 * 3600
KILLED = -signal.SIGKILL
AUGMENTATION = {"transforms": [{"name": "HorizontalFlip", "parameters": {"p": 0.5}}], "copies": 1}


@dataclass(frozen=True)
class Reference:
    """What an undisturbed build did: its version, operations by stage, bytes of each stage on the disk."""

    recipe: Path
    expected: Expected
    counts: Mapping[str, int]
    sizes: Mapping[str, int]


@dataclass
class Outcome:
    """What became of a schedule. `struck`: faults that came to pass; `codes`: exit codes of all builds."""

    schedule: Schedule
    problems: list[str] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    seconds: float = 0


def prepare(folder: Path, launcher: Launcher) -> Reference:
    """Write a recipe that has every stage and build it undisturbed."""
    from tests.support.tiny_generators import save_sd

    save_sd(folder / "recipe" / "generator")
    recipe = write_recipe(folder / "recipe", augmentation=AUGMENTATION)
    store, counts = folder / "undisturbed", folder / "counts"
    orders = Orders(store, folder / "log", folder / "out", counts=counts)
    ended = launcher.start(["build", str(recipe), "--store", str(store)], orders)
    ended.join(HANGS_SECONDS)
    assert ended.exitcode == 0, (folder / "log").read_text()
    sizes = {stage: size_of(folder_of(store, stage)) for stage in STAGES}
    return Reference(recipe, describe(Store.open(str(store)), NAME, VERSION), read_counts(counts), sizes)


def folder_of(store: Path, stage: str) -> Path:
    return store / DATASETS if stage == "publication" else store / "artifacts" / stage


def size_of(folder: Path) -> int:
    """Bytes of its files in whole pages; those of a published shard are the artifact's."""
    found = [path.stat() for path in folder.rglob("*") if path.is_file()]
    shared = folder.name == DATASETS
    return sum(-(-status.st_size // PAGE) * PAGE for status in found if status.st_nlink == 1 or not shared)


def count_files(folder: Path) -> int:
    """Files with their final names; one that vanishes meanwhile may be missed."""
    return sum(not name.startswith(TEMPORARY) for _, _, names in os.walk(folder) for name in names)


def find_workers(pid: int | None) -> list[psutil.Process]:
    """Worker processes of a build."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(pid).children()
        return [child for child in children if any("spawn_main" in word for word in child.cmdline())]
    return []


class Disk:
    """A disk of its own for a store (tmpfs), which can be full. Errors: OSError where none can be mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mount(f"size={ROOM}")

    def _mount(self, options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        if subprocess.run(command, capture_output=True).returncode != 0:
            raise OSError(f"cannot mount {options}")

    def limit(self, size: int) -> None:
        """Leave room for `size` bytes in all, and for a page more than there are."""
        disk = os.statvfs(self.folder)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        self._mount(f"remount,size={max(size, used + PAGE)}")

    def enlarge(self) -> None:
        self._mount(f"remount,size={ROOM}")

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


class Run:
    """One schedule on a store of its own in `folder`."""

    def __init__(self, schedule: Schedule, reference: Reference, launcher: Launcher, folder: Path) -> None:
        self.reference, self.launcher, self.folder = reference, launcher, folder
        self.outcome = Outcome(schedule)
        self.draws = random.Random(schedule.seed)
        self.store = folder / "store"
        self.store.mkdir()
        self.address = str(self.store)
        self.disk: Disk | None = None
        self.damaged = False  # a published file, by us
        kinds = {fault.kind: fault for fault in schedule.faults}
        if "disk_full" in kinds:
            with suppress(OSError):
                self.disk = Disk(self.store)
        # As if the clock had been wrong by that until it goes back, beyond the true time.
        self.ahead = MOST_SHIFT_SECONDS * kinds["clock_back"].amount if "clock_back" in kinds else 0

    def close(self) -> None:
        if self.disk is not None:
            self.disk.close()

    def open_store(self) -> Store:
        return Store.open(self.address)

    def run(self) -> Outcome:
        started = time.perf_counter()
        for number, fault in enumerate(self.outcome.schedule.faults):
            getattr(self, f"_{fault.kind}")(fault, self.folder / f"struck-{number}")
            if list(self.folder.glob(f"struck-{number}*")):
                self.outcome.struck.append(fault.kind)
            if not self.damaged:
                self._report(find_half_published(self.open_store(), NAME), f"after {fault}")
        self._finish()
        self.outcome.seconds = time.perf_counter() - started
        return self.outcome

    def _killed(self, fault: Fault, marker: Path) -> None:
        action = "die" if fault.amount < 0.5 else "die_late"
        self._build(self._trap(fault, marker, action=action, late=self.draws.random()))

    def _worker_lost(self, fault: Fault, marker: Path) -> None:
        """As soon as the stage has so many files; the build goes on with other workers, or dies as well."""
        wanted = fault.place({f"{fault.stage}/{fault.operation}": self.reference.counts[f"{fault.stage}/rename"]})
        process, folder = self._start(words=WITH_WORKERS), folder_of(self.store, fault.stage)
        while process.is_alive():
            workers = find_workers(process.pid)
            if workers and count_files(folder) >= wanted:
                self.draws.choice(workers).kill()
                marker.touch()
                break
            process.join(POLL_SECONDS)
        if not fault.final:
            process.join(LATE_SECONDS * self.draws.random())
            process.kill()
        self._await(process, "log")

    def _store_error(self, fault: Fault, marker: Path) -> None:
        lasting = fault.amount < 0.5 or not fault.final
        self._build(self._trap(fault, marker, action="fail", lasting=lasting))

    def _disk_full(self, fault: Fault, marker: Path) -> None:
        if self.disk is None:
            trap = self._trap(fault, marker, action="fail", error=errno.ENOSPC, lasting=True)
            return self._build(trap)
        before = STAGES[: STAGES.index(fault.stage)]
        sizes = self.reference.sizes
        self.disk.limit(int(sum(sizes[stage] for stage in before) + fault.moment * sizes[fault.stage]))
        self._build()
        if "disk is full" in (self.folder / "log").read_text():
            marker.touch()
        self.disk.enlarge()

    def _corrupt(self, fault: Fault, marker: Path) -> None:
        """Stop a build in the stage, then damage some of what the stage left; a version when it is whole."""
        if fault.stage == "publication":
            self._build_until_done()
        else:
            self._build(self._dying(fault))
        paths = [path for path in sorted(folder_of(self.store, fault.stage).rglob("*")) if path.is_file()]
        if fault.stage == "publication":
            paths = [path for path in paths if path.suffix in (".tar", ".parquet")]
        if paths:
            # A build that ended before it was stopped has published this: its shards are the artifacts of the stage.
            self.damaged = bool(list_versions(self.open_store(), NAME))
            for path in self.draws.sample(paths, min(2, len(paths))):
                damage(path, self.draws)
            marker.touch()

    def _clock_back(self, fault: Fault, marker: Path) -> None:
        back, self.ahead = self.ahead, -self.ahead
        trap = self._trap(fault, marker, action="jump", seconds=-2 * back)
        survives = fault.final and fault.amount < 0.5
        self._build(trap, *([] if survives else [self._dying(fault)]), ahead=back)

    def _two_builds(self, fault: Fault, marker: Path) -> None:
        """Both wait for each other at the operation. Sometimes the other, or else both, are killed there."""
        meeting = self._trap(fault, marker, action="meet")
        mine = () if fault.final else (self._dying(fault),)
        other = () if fault.final and fault.amount < 0.5 else (self._dying(fault),)
        wrong = RIVAL_AHEAD_SECONDS if self.draws.random() < 0.5 else 0  # the clock of its machine
        pair = [
            self._start(meeting, *mine, log="log"),
            self._start(meeting, *other, log="log-2", ahead=self.ahead + wrong),
        ]
        for process, log in zip(pair, ("log", "log-2"), strict=True):
            self._await(process, log)

    def _dying(self, fault: Fault) -> Trap:
        return self._trap(fault, self.folder / "stopped", action="die_late", late=self.draws.random())

    def _trap(self, fault: Fault, marker: Path, **how: Any) -> Trap:
        return Trap(fault.stage, fault.operation, fault.place(self.reference.counts), marker, **how)

    def _start(
        self, *traps: Trap, words: tuple[str, ...] = BUILD, log: str = "log", ahead: float | None = None
    ) -> ForkServerProcess:
        clock = self.ahead if ahead is None else ahead
        orders = Orders(self.store, self.folder / log, self.folder / f"{log}.out", traps, clock)
        return self.launcher.start([*words, str(self.reference.recipe), "--json", "--store", self.address], orders)

    def _build(self, *traps: Trap, words: tuple[str, ...] = BUILD, ahead: float | None = None) -> None:
        started = time.time()
        self._await(self._start(*traps, words=words, ahead=ahead), "log")
        if self.ahead or ahead:
            shift_times(self.store, started, self.ahead if ahead is None else ahead)

    def _await(self, process: ForkServerProcess, log: str) -> None:
        """Wait for a build. A hang, a traceback and an exit code of nobody's are problems."""
        process.join(HANGS_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            self._report([f"did not end in {HANGS_SECONDS} s"], log)
        code = process.exitcode
        self.outcome.codes.append(code if code is not None else KILLED)
        text = (self.folder / log).read_text() if (self.folder / log).exists() else ""
        if code in (1, 2) and ("Traceback" in text or "error: " not in text):
            self._report([f"exit code {code} without one clear error: {text[-2000:]}"], log)
        if code not in (0, 1, 2, KILLED):
            self._report([f"exit code {code}: {text[-2000:]}"], log)

    def _build_until_done(self) -> None:
        for _ in range(MOST_TRIES):
            self._build()
            if self.outcome.codes[-1] == 0:
                return
        self._report([f"not done after {MOST_TRIES} builds: {(self.folder / 'log').read_text()[-2000:]}"], "end")

    def _finish(self) -> None:
        self._build_until_done()
        if self.damaged and find_half_published(self.open_store(), NAME):
            self._build(words=("rerun", "--stage", "shards"))
        self._report(find_problems(self.open_store(), self.reference.expected), "end")
        self._build()
        made = json.loads((self.folder / "log.out").read_text() or "{}")
        if self.outcome.codes[-1] != 0 or made.get("new") or made.get("work"):
            self._report([f"a further build did not find all done: {made.get('work')}"], "end")

    def _report(self, problems: list[str], where: str) -> None:
        self.outcome.problems += [f"{where}: {problem}" for problem in problems]


def damage(path: Path, draws: random.Random) -> None:
    """Flip a byte, fill with zeros from somewhere on, or cut, in place. A receipt is torn, never flipped."""
    data = bytearray(path.read_bytes())
    place = draws.randrange(len(data)) if data else 0
    ways = ["cut", "zeros"] if path.suffix == ".json" else ["flip", "cut", "zeros"]
    way = draws.choice(ways)
    with path.open("r+b") as out:
        if way == "cut":
            out.truncate(place)
        elif way == "zeros":
            out.seek(place)
            out.write(bytes(len(data) - place))
        elif data:
            out.seek(place)
            out.write(bytes([data[place] ^ (1 << draws.randrange(8))]))


def shift_times(folder: Path, since: float, seconds: float) -> None:
    """Let files written since then look as if a clock had been ahead by `seconds` that wrote them."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            moment = path.stat().st_mtime
            if since - 1 <= moment <= time.time() + 1:
                os.utime(path, (moment + seconds, moment + seconds))


def run_schedule(schedule: Schedule, reference: Reference, launcher: Launcher, folder: Path) -> Outcome:
    """Run it on a fresh store below `folder`, which is removed unless there were problems."""
    own = Path(tempfile.mkdtemp(prefix=f"schedule-{schedule.seed}-", dir=folder))
    return finish(Run(schedule, reference, launcher, own))


def finish(run: Run) -> Outcome:
    """Run it and clear up."""
    try:
        outcome = run.run()
    finally:
        run.close()
    if not outcome.problems:
        shutil.rmtree(run.folder)
    return outcome
