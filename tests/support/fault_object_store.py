"""Schedules of faults on an object store: a real S3 server whose answers a proxy spoils (tests/support/s3_server.py).

Faults strike at the n-th request for a stage's objects instead of an operation on a disk. A build is killed as such a
request comes, done or not; errors are all that the proxy knows, for some requests in a row; two builds start together
and the first that claims the version is held up.
"""

import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tailforge.catalog.store import Store
from tests.support import s3_server
from tests.support.fault_invariants import find_problems
from tests.support.fault_launcher import ARTIFACTS, DATASETS, LATE_SECONDS, PUBLICATION, Launcher
from tests.support.fault_runs import HANGS_SECONDS, Outcome, Reference, Run, finish
from tests.support.fault_schedules import OPERATIONS, STAGES, Fault, Schedule
from tests.support.s3_server import Request, S3Server

ERRORS = tuple(each for each in s3_server.Fault if each is not s3_server.Fault.DELAYED)
MOST_IN_A_ROW = 12  # requests that are spoilt; botocore tries each five times
KILLING = (s3_server.Fault.BROKEN, s3_server.Fault.LOST_ANSWER)
RIVAL_S = 2.0


def stage_of(request: Request) -> str | None:
    """Whose objects a request is for."""
    _, _, path = f"{request.path}/{request.query.get('prefix', '')}".partition("/store/")
    room, _, rest = path.partition("/")
    return PUBLICATION if room == DATASETS else rest.partition("/")[0] if room == ARTIFACTS else None


def prepare_object_store(reference: Reference, launcher: Launcher, server: S3Server, folder: Path) -> Reference:
    """The reference with requests in place of operations. An undisturbed build there must make the same version."""
    run = ObjectStoreRun(Schedule(0, ()), reference, launcher, Path(tempfile.mkdtemp(dir=folder)), server)
    server.requests.clear()
    process = run._start()
    process.join(HANGS_SECONDS)
    counts = Counter(stage_of(request) for request in server.requests)
    problems = find_problems(run.open_store(), reference.expected)
    assert not problems, problems
    return replace(reference, counts={f"{stage}/{each}": counts[stage] for stage in STAGES for each in OPERATIONS})


class ObjectStoreRun(Run):
    """One schedule on a bucket of its own."""

    def __init__(
        self, schedule: Schedule, reference: Reference, launcher: Launcher, folder: Path, server: S3Server
    ) -> None:
        super().__init__(schedule, reference, launcher, folder)
        self.server = server
        self.address = f"s3://{server.make_bucket()}/store"

    def close(self) -> None:
        self.server.faults = None

    def open_store(self) -> Store:
        self.server.faults = None  # who looks at the outcome is not disturbed
        return super().open_store()

    def _killed(self, fault: Fault, marker: Path) -> None:
        pids: list[int] = []

        def kill() -> s3_server.Fault:
            os.kill(pids[0], signal.SIGKILL)
            return self.draws.choice(KILLING)

        self.server.faults = self._at(fault, marker, 1, kill)
        process = self._start()
        pids.append(process.pid or 0)
        self._await(process, "log")

    def _store_error(self, fault: Fault, marker: Path) -> None:
        times = 1 + int(MOST_IN_A_ROW * fault.amount)
        self.server.faults = self._at(fault, marker, times, lambda: self.draws.choice(ERRORS))
        process = self._start()
        while not fault.final and process.is_alive():
            if list(marker.parent.glob(f"{marker.name}*")):
                process.join(LATE_SECONDS * self.draws.random())
                process.kill()
            process.join(0.02)
        self._await(process, "log")

    def _two_builds(self, fault: Fault, marker: Path) -> None:
        claims = s3_server.once(
            lambda request: request.method == "PUT" and "/.claims/" in request.path, s3_server.Fault.DELAYED
        )
        self.server.faults, self.server.delay_s = claims, RIVAL_S
        pair = [self._start(log="log"), self._start(log="log-2")]
        marker.touch()
        if not fault.final or fault.amount < 0.5:
            pair[1].join(RIVAL_S * (1 + self.draws.random()))
            pair[1].kill()
        for process, log in zip(pair, ("log", "log-2"), strict=True):
            if not fault.final:
                process.kill()
            self._await(process, log)

    def _at(self, fault: Fault, marker: Path, times: int, strike: Callable[[], s3_server.Fault]) -> s3_server.Faults:
        """Strike at the drawn request for the stage and at the next ones, `times` in all."""
        seen, place = [0], fault.place(self.reference.counts)

        def choose(request: Request) -> s3_server.Fault | None:
            seen[0] += stage_of(request) == fault.stage
            if not place <= seen[0] < place + times or stage_of(request) != fault.stage:
                return None
            marker.touch()
            return strike()

        return choose


def run_on_object_store(
    schedule: Schedule, reference: Reference, launcher: Launcher, folder: Path, server: S3Server
) -> Outcome:
    """Run it on a fresh bucket; logs lie below `folder` and are removed unless there were problems."""
    own = Path(tempfile.mkdtemp(prefix=f"bucket-{schedule.seed}-", dir=folder))
    return finish(ObjectStoreRun(schedule, reference, launcher, own, server))
