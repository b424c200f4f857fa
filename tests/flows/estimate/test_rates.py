"""A prediction comes from the receipts that are most like the work, and says how far it can be trusted."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tailforge.flows.estimate.build_history import Pace
from tailforge.flows.estimate.rates import LIKENESS, Interval, Rate, exactly, fit_line, fit_rate, scale_seconds
from tailforge.schemas.effort import Effort, count_passes
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.settings.engines import Engine
from tailforge.tasks.artifacts.contract import count_threads, describe_machine

MODELS = {"generator": "g1"}
MINE = Effort(like="a", version="4", machine="two cores", device="cpu", threads=2, passes=40)


def made(seconds: float, rows: int = 10, models: dict[str, str] = MODELS, **changes: Any) -> Receipt:
    """A receipt of `samples`; `effort=None` is one of an older build, other changes are of its effort."""
    timings = changes.pop("timings", {}) | {"compute": seconds}
    effort = None if changes.get("effort", 1) is None else MINE.model_copy(update=changes)
    return Receipt(stage="samples", fingerprint="", part=0, label="", uri="", sha256="", rows=rows, bytes=100 * rows,
                   timings=timings, models=models, effort=effort)  # fmt: skip


def rate(*receipts: Receipt) -> Rate:
    found = fit_rate(MINE, MODELS, receipts)
    assert found is not None
    return found


def test_like_receipts_alone_decide_where_there_are_any() -> None:
    other = [made(900.0, like="b", machine="another"), made(900.0, like="b"), made(900.0, effort=None)]
    found = rate(made(20.0), made(30.0, rows=15), *other)
    assert found.seconds.at(3, 30) == pytest.approx(60.0)
    assert (found.likeness.name, found.seconds.points) == ("same", 2)
    assert found.basis == "from 2 partitions of these settings and models on this machine"


@pytest.mark.parametrize(
    ("receipt", "name"),
    [
        (made(20.0), "same"),
        (made(20.0, threads=1), "threads"),
        (made(20.0, like="b"), "settings"),
        (made(20.0, machine="another"), "machine"),
        (made(20.0, like="b", models={"generator": "g2"}), "models"),
        (made(20.0, like="b", machine="another"), "other"),
        (made(20.0, like="b", version="3"), "other"),
        (made(20.0, effort=None), "other"),
    ],
)
def test_each_step_to_less_like_work_is_named_and_widens_the_interval(receipt: Receipt, name: str) -> None:
    found = rate(receipt)
    assert found.likeness.name == name
    assert (name == "same") == ("factor" not in found.basis)
    predicted = found.seconds.predict(exactly(4), exactly(40), found.factor)
    assert predicted.high / predicted.value == pytest.approx(2 * found.likeness.factor)  # of one receipt


def test_the_factors_rise_with_unlikeness() -> None:
    factors = [likeness.factor for likeness in LIKENESS]
    assert factors == sorted(factors)


def test_another_engine_counts_by_its_passes_and_is_not_taken_for_ones_own() -> None:
    searching = MINE.model_copy(update={"like": "s", "engine": "seed_select", "passes": 400})
    found = fit_rate(searching, MODELS, [made(20.0)])
    assert found is not None
    assert found.likeness.name == "engine"
    assert found.seconds.at(1, 10) == pytest.approx(200.0)
    assert "may be wrong by a factor of 3" in found.basis
    uncounted = searching.model_copy(update={"passes": 0})
    assert fit_rate(uncounted, MODELS, [made(20.0), made(20.0, effort=None)]) is None
    assert fit_rate(MINE, MODELS, [made(20.0, like="s", engine="natural_inversion", passes=0)]) is None
    own = fit_rate(searching, MODELS, [made(900.0), made(70.0, like="s", engine="", passes=0)])  # of an older build
    assert own is not None
    assert (own.likeness.name, own.seconds.at(1, 10)) == ("same", 70.0)


def test_a_machine_is_the_same_with_another_number_of_threads() -> None:
    older = Effort(like="a", version="4", machine="x86_64 Xeon, 1 of 8 threads", device="cpu", passes=40)
    assert (older.machine, older.threads, older.engine) == ("x86_64 Xeon, 8 cores", 1, "plain")
    assert Effort.model_validate_json(older.model_dump_json()) == older
    pace = Pace(machine="x86_64 Xeon, 1 of 8 threads", workers=1, steps=1, wall=1.0, busy=1.0)
    assert pace.machine == older.machine


def test_this_machine_has_one_name_whatever_it_is_asked_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    for threads in ("1", "", "no number"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        describe_machine.cache_clear()
        seen.add(describe_machine())
        assert count_threads() == (1 if threads == "1" else count_threads())
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("engine", "passes"),
    [
        ({"kind": "plain", "steps": 16}, 32),
        ({"kind": "plain", "steps": 16, "guidance": 1.0}, 16),
        ({"kind": "best_of_n", "steps": 16, "candidates": 40}, 32 + 448),  # 0.7 of 40 images of 8 steps with guidance
        ({"kind": "zero_order", "steps": 16, "candidates": 4, "rounds": 2, "neighbours": 3}, 32 + 112),
        (
            {"kind": "seed_select", "preset": "published"},
            40 + 3360,
        ),  # 0.7 of 30 steps of 40 passes, whose gradient costs 120
        ({"kind": "seed_select", "steps": 16, "mode": "bootstrapped", "mixes": 4}, 32 + 45),
    ],
)
def test_passes_of_every_engine_that_draws(engine: dict[str, Any], passes: int) -> None:
    chosen = TypeAdapter(Engine).validate_python(engine)
    assert count_passes({"engine": chosen.model_dump(mode="json")})[0] == passes


def test_nothing_known_is_no_rate() -> None:
    assert fit_rate(MINE, MODELS, []) is None


def test_the_first_partition_of_a_process_is_kept_apart() -> None:
    cold = made(50.0, cold=True, timings={"load": 7.0})
    found = rate(cold, made(20.0), made(20.0), made(20.0))
    assert found.seconds.at(2, 20) == pytest.approx(40.0)
    assert (found.start, found.load) == (pytest.approx(30.0), 7.0)
    alone = rate(cold)
    assert alone.all_cold
    assert alone.start == 0
    assert alone.seconds.at(1, 10) == pytest.approx(50.0)
    assert "warm-up" in alone.basis


def test_cold_work_of_these_settings_is_passed_over_for_no_unlike_work_that_is_cold_too() -> None:
    assert rate(made(50.0, cold=True), made(20.0, like="b")).likeness.name == "settings"
    assert rate(made(50.0, cold=True), made(20.0, like="b", cold=True)).likeness.name == "same"


def test_an_accelerator_is_the_place_whatever_machine_holds_it() -> None:
    mine = MINE.model_copy(update={"device": "H100"})
    found = fit_rate(mine, MODELS, [made(1.0, device="H100", machine="another"), made(40.0)])
    assert found is not None
    assert (found.likeness.name, found.device) == ("same", "H100")


def test_other_steps_scale_the_denoising_alone() -> None:
    mine = MINE.model_copy(update={"passes": 80, "pixels": 64})
    receipt = made(10.0, like="b", pixels=32, timings={"sample": 6.0})
    assert scale_seconds(mine, receipt) == pytest.approx(4.0 + 6.0 * 4)
    assert scale_seconds(mine, made(10.0, passes=0)) == 10.0


def test_partitions_of_several_sizes_tell_the_fixed_part_from_that_of_a_row() -> None:
    line = fit_line([(rows, 3 + 0.5 * rows) for rows in (4, 8, 16, 32, 64)])
    assert (line.per_step, line.per_row) == (pytest.approx(3), pytest.approx(0.5))
    assert line.spread == pytest.approx(0, abs=1e-9)


def test_partitions_of_one_size_leave_all_to_the_row() -> None:
    line = fit_line([(8, 4.0), (8, 6.0)])
    assert (line.per_step, line.per_row) == (0, pytest.approx(0.625))


def test_where_rows_are_not_counted_a_partition_is_the_unit() -> None:
    assert fit_line([(0, 4.0), (0, 6.0)]).at(3, 0) == pytest.approx(15.0)


def test_the_interval_is_that_of_students_t() -> None:
    line = fit_line([(1, 1.0), (1, math.e**0.2)])
    predicted = line.predict(exactly(2), exactly(2), 1.0)
    assert predicted.high / predicted.value == pytest.approx(math.exp(6.313752 * 0.2 / math.sqrt(2) * 1.0))


POINTS = st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1e4)), min_size=1, max_size=30)


@given(POINTS, st.integers(0, 300), st.integers(0, 10_000), st.integers(0, 1000), st.floats(1, 4))
def test_an_interval_holds_its_value_and_more_rows_are_never_cheaper(
    points: list[tuple[int, float]], steps: int, rows: int, more: int, factor: float
) -> None:
    line = fit_line(points)
    few, many = (line.predict(exactly(steps), exactly(rows + extra), factor) for extra in (0, more))
    for each in (few, many):
        assert 0 <= each.low <= each.value <= each.high
    assert few.value <= many.value


def test_intervals_add_and_scale() -> None:
    assert Interval(2, 1, 4) + exactly(1) == Interval(3, 2, 5)
    assert Interval(2, 1, 4).scale(0.5) == Interval(1, 0.5, 2)
