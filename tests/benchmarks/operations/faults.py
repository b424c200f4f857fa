"""Faults in every stage, as the page of operations shows them: drawn schedules, and the invariants after each."""

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401  a scratch home for Prefect, before anything imports it
from tailforge.flows.runners.device_leases import LEASES
from tests.benchmarks.pages import row
from tests.support.fault_launcher import Launcher
from tests.support.fault_object_store import prepare_object_store, run_on_object_store
from tests.support.fault_runs import Outcome, prepare, run_schedule
from tests.support.fault_schedules import FAULTS_EACH, KINDS, OBJECT_STORE_KINDS, STAGES, draw_schedules
from tests.support.s3_server import S3Server

ON_DISK, ON_OBJECT_STORE = 42, 8
SCHEDULES = ON_DISK + ON_OBJECT_STORE
SEED = 20261128


def run_schedules(folder: Path) -> list[Outcome]:
    """All against one Prefect server. A schedule that broke an invariant leaves its store, and says so."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    outcomes = []

    def keep(outcome: Outcome) -> None:
        outcomes.append(outcome)
        words = "; ".join(outcome.problems) or "all holds"
        line = f"{outcome.schedule}: codes {outcome.codes}, {outcome.seconds:.0f} s, {words}"
        print(line, file=sys.stderr, flush=True)

    with prefect_test_harness(server_startup_timeout=180), S3Server() as server:
        own = {"PREFECT_API_URL": str(PREFECT_API_URL.value()), LEASES: str(folder / "devices")}
        os.environ.update(server.environment)
        launcher = Launcher({**own, **server.environment})
        reference = prepare(folder, launcher)
        for schedule in draw_schedules(ON_DISK, SEED):
            keep(run_schedule(schedule, reference, launcher, folder))
        reference = prepare_object_store(reference, launcher, server, folder)
        for schedule in draw_schedules(ON_OBJECT_STORE, SEED, OBJECT_STORE_KINDS):
            keep(run_on_object_store(schedule, reference, launcher, folder, server))
    return outcomes


def measure() -> list[dict[str, Any]]:
    """Rows of all schedules together, and of the faults that struck by kind."""
    outcomes = run_schedules(Path(tempfile.mkdtemp(prefix="fault-schedules-")))
    struck = Counter(kind for outcome in outcomes for kind in outcome.struck)
    codes = Counter(code for outcome in outcomes for code in outcome.codes)
    figures = [
        ("fault_schedules", len(outcomes), "schedules run"),
        ("fault_failures", sum(bool(outcome.problems) for outcome in outcomes), "schedules that broke an invariant"),
        ("faults_drawn", FAULTS_EACH * len(outcomes), "faults"),
        ("faults_struck", struck.total(), "faults that came to pass"),
        *((f"faults_struck_{kind}", struck[kind], "faults that came to pass") for kind in KINDS),
        ("fault_builds", codes.total(), "processes started"),
        ("fault_builds_killed", sum(count for code, count in codes.items() if code < 0), "processes killed"),
        ("fault_builds_refused", codes[1] + codes[2], "processes that ended with one clear error"),
    ]
    return [row("tailforge", metric, value, unit) for metric, value, unit in figures]


def judge(rows: list[dict[str, Any]]) -> list[str]:
    """The goal with its figure."""
    own = {row["metric"]: row["value"] for row in rows}
    ran, failed = own["fault_schedules"], own["fault_failures"]
    met = "met" if ran >= SCHEDULES and failed == 0 else "**missed**"
    return [
        f"- 50 random schedules of faults, no lost or doubled sample, no half-published version, all final digests "
        f"equal: {ran:.0f} schedules, {failed:.0f} broke an invariant, {met}"
    ]


SECTION = f"""
## Faults

Whether a version is right whatever goes wrong while it is made. A schedule is {FAULTS_EACH} faults, drawn from a seed;
all {ON_DISK} on a disk together bring every kind of fault into every stage ({", ".join(STAGES)}). A fault strikes at a
drawn read, write, sync or rename of a file of its stage. Every build is a process of its own, through the command.
The recipe is the tests' tiny one, with augmentation.

- `killed`: SIGKILL, at once (a file that is being synced loses its second half) or moments later.
- `worker_lost`: SIGKILL to a worker process of a build with `--runner processes` as soon as the stage has left a drawn
  number of files; the build goes on with fresh workers, or is killed moments later, too.
- `store_error`: the operation answers EIO, once, or from then on until the build ends.
- `disk_full`: a disk of the store's own (tmpfs) has no more room at the drawn point of the stage; it is enlarged
  before the next build. Where none can be mounted, operations answer ENOSPC instead.
- `corrupt`: a build is killed in the stage, then in two of the stage's files a bit is flipped, or the end is cut or
  filled with zeros. In stage `publication` files of the finished version are damaged.
- `clock_back`: builds run with a clock that is up to three days ahead, and in the middle of one it goes as far behind
  the true time; times of files follow. The clock is Python's in the process (time-machine); the server's stays true.
- `two_builds`: two builds of the recipe in one store, which wait for each other at the operation; the other may have
  a clock that is two days ahead, or be killed.

{ON_OBJECT_STORE} of the schedules run on an object store, an S3 server behind a proxy: there a fault strikes at a drawn
request for the stage's objects. Kinds are `killed`; `store_error`, which is up to twelve requests in a row that meet
500, 503, a broken connection, a lost answer or a torn body; and `two_builds`, of which the first to claim is held up.

After each fault no reader may see half a version. Then the same command is given until it exits 0; before that it may
end with one clear error and exit code 1 or 2. A published version that was damaged is mended by
`rerun --stage shards`. At the end there is one version; `verify` finds nothing; its samples, by the manifest and by the
reader, are exactly those of an undisturbed build, and so are the digests of shards, manifest and rejects; one more
build finds nothing to do. Retries wait 0.1 to 1 s here, not 1 to 30 s. A drawn fault need not strike: its operation may
not come again in a build that goes on.
"""
