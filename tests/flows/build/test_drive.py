"""Driving chains: finished steps are not run, stages overlap, a failure stops new work and keeps what was made."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from tailforge.catalog.store import Store
from tailforge.flows.build.drive import Chain, Drive, Step
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.contract import Address, ArtifactKind
from tests.support.stages import placed

SCHEMA = pa.schema([("n", pa.int32())])
FIRST, SECOND = (ArtifactKind(name=name, version="1", schema=SCHEMA) for name in ("first", "second"))


STAGES = [placed(Address(kind, 0, "", {}, {})) for kind in (FIRST, SECOND)]


def make() -> pa.Table:
    return pa.table({"n": [1]}, SCHEMA)


class Workers:
    """Runs steps on real threads and records which ran."""

    def __init__(self, store: Store, failing: str = "") -> None:
        self.store, self.failing, self.ran = store, failing, []  # type: ignore[var-annotated]
        self.pool, self.lock = ThreadPoolExecutor(2), threading.Lock()

    def submit(self, step: Step):  # type: ignore[no-untyped-def]
        def work() -> Receipt:
            label = f"{step.address.stage.name} {step.address.label}"
            with self.lock:
                self.ran.append(label)
            if label == self.failing:
                raise RuntimeError(f"broken {label}")
            return step.stage.make(self.store, *step.given)

        return self.pool.submit(work)


def chain(name: str) -> Chain:
    first = yield Step(placed(Address(FIRST, 0, name, {"name": name}, {}), make), ())
    second = yield Step(placed(Address(SECOND, 0, name, {}, {"first": first.sha256, "name": name}), make), ())
    return f"{name} {second.rows}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path), create=True)


def test_values_come_in_order_and_a_second_run_does_nothing(store: Store) -> None:
    workers = Workers(store)
    drive = Drive(store, workers.submit, window=3)
    names = [str(i) for i in range(10)]
    assert drive.run([chain(n) for n in names], STAGES) == [f"{n} 1" for n in names]
    assert len(workers.ran) == 20
    again = Drive(store, workers.submit)
    assert again.run([chain(n) for n in names], STAGES) == [f"{n} 1" for n in names]
    assert len(workers.ran) == 20
    assert again.tally.cached == {"first": 10, "second": 10}


def test_stages_overlap(store: Store) -> None:
    workers = Workers(store)
    Drive(store, workers.submit, window=3).run([chain(str(i)) for i in range(10)], STAGES)
    assert workers.ran.index("second 0") < workers.ran.index("first 9")


def test_dry_run_stops_at_the_first_missing_step(store: Store) -> None:
    workers = Workers(store)
    Drive(store, workers.submit).run([chain("a")], STAGES)
    dry = Drive(store, submit=None)
    assert dry.run([chain("a"), chain("b")], STAGES) == ["a 1", None]
    assert dry.tally.missing == {"first": 1}


def test_a_failure_is_raised_after_the_steps_in_flight_and_their_work_is_kept(store: Store) -> None:
    workers = Workers(store, failing="second 1")
    with pytest.raises(RuntimeError, match="broken second 1"):
        Drive(store, workers.submit, window=2).run([chain(str(i)) for i in range(50)], STAGES)
    done = len(workers.ran)
    assert done < 20
    rerun = Workers(store)
    Drive(store, rerun.submit, window=2).run([chain(str(i)) for i in range(50)], STAGES)
    assert len(rerun.ran) == 100 - (done - 1)
