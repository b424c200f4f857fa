"""Under a limit a run begins no partition that does not fit, and finishes those that it began."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailforge.catalog.store import Store
from tailforge.flows.build.drive import Chain, Drive, Step
from tailforge.flows.build.spending import Spending
from tailforge.flows.samples.remake import Done
from tailforge.schemas.effort import Effort
from tailforge.schemas.errors import LimitReachedError
from tailforge.schemas.prices import Limits, Prices
from tailforge.tasks.artifacts.contract import Address, ArtifactKind
from tests.support.stages import placed

SCHEMA = pa.schema([("n", pa.int32())])
DRAW, JUDGE = (ArtifactKind(name=name, version="1", schema=SCHEMA) for name in ("draw", "judge"))
STAGES = [placed(Address(kind, 0, "", {}, {})) for kind in (DRAW, JUDGE)]
HOUR = 3600.0


def chain(number: int, rows: int) -> Chain:
    """A partition: its images are drawn and judged."""
    drawn = yield Step(placed(Address(DRAW, number, str(number), {"n": number}, {})), (), rows)
    judged = yield Step(placed(Address(JUDGE, number, str(number), {}, {"drawn": drawn.sha256, "n": number})), (), rows)
    return judged.part


class Machine:
    """Does steps one after another, each in so many seconds of its clock."""

    def __init__(self, store: Store, seconds: float = 0.0, device: str = "cpu") -> None:
        self.store, self.seconds, self.device = store, seconds, device
        self.now, self.ran = 0.0, []  # type: ignore[var-annotated]

    def clock(self) -> float:
        return self.now

    def submit(self, step: Step) -> Done:
        self.now += self.seconds
        self.ran.append((step.stage.name, step.rows))
        made = step.stage.make(self.store, *step.given)
        effort = Effort(like="0" * 12, version="1", machine="m", device=self.device)
        return Done(made.model_copy(update={"effort": effort, "timings": {"compute": self.seconds}}))

    def run(self, rows: Sequence[int], limits: Limits, window: int = 8) -> list[Any]:
        spending = Spending(limits, "draw", self.clock)
        drive = Drive(self.store, self.submit, window, spending=spending)
        return drive.run([chain(number, each) for number, each in enumerate(rows)], STAGES)

    def drawn(self) -> list[int]:
        return [rows for stage, rows in self.ran if stage == "draw"]


@given(
    rows=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    images=st.integers(1, 60),
    window=st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_images_stay_within_the_limit_and_every_begun_partition_is_finished(
    rows: list[int], images: int, window: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store.open(str(tmp_path_factory.mktemp("store")), create=True)
    machine, whole = Machine(store), list(range(len(rows)))
    if sum(rows) <= images:
        assert machine.run(rows, Limits(images=images), window) == whole
    else:
        with pytest.raises(LimitReachedError) as raised:
            machine.run(rows, Limits(images=images), window)
        assert f"--max-images {images} leaves {images - sum(machine.drawn())}, " in str(raised.value)
    assert sum(machine.drawn()) <= images
    assert machine.drawn() == rows[: len(machine.drawn())]
    assert sorted(machine.ran) == sorted([("draw", each) for each in machine.drawn()]
                                         + [("judge", each) for each in machine.drawn()])  # fmt: skip

    rerun = Machine(store)
    assert rerun.run(rows, Limits()) == whole
    assert rerun.drawn() == rows[len(machine.drawn()) :]


@pytest.mark.parametrize(
    ("limits", "device", "partitions"),
    [
        (Limits(hours=7), "cpu", 3),  # a partition takes two hours: three end before the seventh
        (Limits(hours=1), "cpu", 1),  # nothing is known of the first, so it begins
        (Limits(hours=0), "cpu", 0),
        (Limits(cost=7, prices=Prices(machine_hour=1)), "cpu", 3),
        (Limits(cost=7, prices=Prices(accelerator_hour=1)), "cuda", 3),
        (Limits(cost=7, prices=Prices(accelerator_hour=1, machine_hour=1)), "cuda", 1),
        (Limits(cost=7, prices=Prices(accelerator_hour=1)), "cpu", 10),
        (Limits(cost=1, hours=7, prices=Prices(machine_hour=0.01)), "cpu", 3),
    ],
)
def test_time_and_money_end_before_a_partition_that_is_not_expected_to_fit(
    limits: Limits, device: str, partitions: int, tmp_path: Path
) -> None:
    machine = Machine(Store.open(str(tmp_path), create=True), HOUR, device)
    if partitions == 10:
        assert len(machine.run([4] * 10, limits, window=1)) == partitions
    else:
        with pytest.raises(LimitReachedError, match=r"--max-(hours|cost) [0-9.]+ leaves"):
            machine.run([4] * 10, limits, window=1)
    assert machine.ran == [("draw", 4), ("judge", 4)] * partitions


def test_finished_work_costs_nothing(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path), create=True)
    Machine(store).run([4] * 5, Limits())
    again = Machine(store, HOUR)
    assert again.run([4] * 5, Limits(images=1, hours=0)) == [0, 1, 2, 3, 4]
    assert again.ran == []


def test_a_failure_beside_a_limit_is_the_error(tmp_path: Path) -> None:
    machine = Machine(Store.open(str(tmp_path), create=True))

    def submit(step: Step) -> Done:
        if step.stage.name == "judge":
            raise RuntimeError("broken")
        return machine.submit(step)

    drive = Drive(machine.store, submit, 2, spending=Spending(Limits(images=4), "draw"))
    with pytest.raises(RuntimeError, match="broken"):
        drive.run([chain(number, 4) for number in range(3)], STAGES)
    assert isinstance(machine.store, Store)
    assert machine.drawn() == [4]
