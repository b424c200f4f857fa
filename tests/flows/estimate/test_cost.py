"""What a plan says a build will cost, from receipts that were put into its store by hand."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailforge.catalog.store import Store
from tailforge.flows.build.prepare import prepare_build
from tailforge.flows.build.walk import Plan, plan_build
from tailforge.flows.estimate.build_history import keep_pace, read_paces
from tailforge.flows.estimate.cost import (
    Estimate,
    StageCost,
    estimate_cost,
    expect_version,
    expect_wall,
    place_stages,
)
from tailforge.flows.estimate.rates import Interval, exactly
from tailforge.flows.estimate.receipt_sample import last_version
from tailforge.flows.estimate.show import count_between, describe, list_rows, show_count, show_size, show_time, to_json
from tailforge.schemas.effort import Effort
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.prices import Prices
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.contract import describe_effort
from tailforge.tasks.stages.verdicts import describe_gates
from tests.support.fabricate import make_build, make_recipe, publish_build

Remember = Callable[..., None]
DRAWN = ("samples", "masks", "verdicts")
FREE = Prices()


@pytest.fixture
def context(tiny_recipe: Path, tmp_path: Path) -> BuildContext:
    return prepare_build(str(tiny_recipe), str(tmp_path / "store"))


@pytest.fixture
def remember(context: BuildContext) -> Remember:
    """Put the receipt of an earlier partition into the store; `effort` overrides what it says of its work."""
    store, places = Store.open(context.store, create=True), place_stages(context)

    def write(
        stage: str, number: int, seconds: float, rows: int = 4, rejected: int = 0, concept: str = "gear",
        effort: dict[str, Any] | None = None, models: dict[str, str] | None = None, load: float = 0.0,
    ) -> None:  # fmt: skip
        address, fingerprint = places[stage], f"{number:032x}"
        known: Effort = describe_effort(address).model_copy(update=effort or {})
        drawn = describe_effort(places["samples"]).like
        uri = f"artifacts/{stage}/{fingerprint}/part-00000"
        receipt = Receipt(
            stage=stage, fingerprint=fingerprint, part=0, label=f"{concept} r0 template:0 #{number}",
            uri=f"{uri}.parquet", sha256="", rows=rows, bytes=1000 * rows, counts={"reason:contrast_low": rejected},
            timings={"compute": seconds, "load": load}, effort=known,
            models=dict(address.models) if models is None else models,
            details={"gates": describe_gates(context), "drawn": drawn} if stage == "verdicts" else {},
        )  # fmt: skip
        store.write_bytes(f"{uri}.json", receipt.model_dump_json().encode())

    return write


def estimate(context: BuildContext, workers: int = 1, prices: Prices = FREE) -> tuple[Plan, Estimate]:
    plan = plan_build(context)
    return plan, estimate_cost(Store.open(context.store), context, plan, workers, prices)


def stage(found: Estimate, name: str) -> StageCost:
    return next(each for each in found.stages if each.stage == name)


def test_an_empty_store_knows_no_cost_and_says_so(context: BuildContext) -> None:
    plan, found = estimate(context)
    assert found.unknown == ["prompts", *DRAWN, "selection", "shard_plan", "shards"]
    assert (found.compute, found.bytes, found.costs) == (exactly(0), exactly(0), {})
    text = "\n".join(describe(plan, found))
    assert "unknown cost, not in these sums: prompts, samples" in text
    assert "a first build of few images shows it" in text
    assert "expected acceptance: gear " in text
    assert "(the recipe's oversample, before the first verdicts)" in text
    assert list_rows(plan, found)[1][4:] == ["", ""]


def test_seconds_and_bytes_follow_from_like_partitions(context: BuildContext, remember: Remember) -> None:
    for number in range(5):
        remember("samples", number, seconds=8.0)
        remember("verdicts", number, seconds=0.4)
        remember("verdicts", number + 10, seconds=0.4, concept="bench")
    _, found = estimate(context)
    samples = stage(found, "samples")
    assert samples.seconds is not None
    assert samples.bytes is not None
    assert samples.rows.low == 24  # the first round, which all but surely is enough where everything passed
    assert samples.seconds.value == pytest.approx(2.0 * samples.rows.value)
    assert samples.bytes.value == pytest.approx(1000 * samples.rows.value)
    assert samples.basis == "from 5 partitions of these settings and models on this machine"
    assert samples.seconds.low < samples.seconds.value < samples.seconds.high
    assert found.unknown == ["prompts", "masks", "selection", "shard_plan", "shards"]
    assert (found.accepted.low, found.accepted.high) == (15, 15)


def test_receipts_of_another_machine_widen_what_is_said(context: BuildContext, remember: Remember) -> None:
    for number in range(5):
        remember("samples", number, seconds=8.0, effort={"machine": "another"})
    far = stage(estimate(context)[1], "samples")
    assert "another machine" in far.basis
    assert "factor of 2" in far.basis
    for number in range(5, 10):
        remember("samples", number, seconds=8.0)
    near = stage(estimate(context)[1], "samples")
    assert near.seconds is not None
    assert far.seconds is not None
    assert near.seconds.high < far.seconds.high
    assert near.basis == "from 5 partitions of these settings and models on this machine"


def test_another_generator_is_named_and_widens(context: BuildContext, remember: Remember) -> None:
    remember("samples", 0, seconds=8.0, effort={"like": "other"}, models={"generator": "0" * 64})
    assert "of other models on this machine" in stage(estimate(context)[1], "samples").basis


def test_the_first_partition_of_a_process_is_an_outlier_of_its_own(context: BuildContext, remember: Remember) -> None:
    remember("samples", 0, seconds=40.0, effort={"cold": True}, load=9.0)
    for number in range(1, 6):
        remember("samples", number, seconds=8.0)
    samples = stage(estimate(context)[1], "samples")
    assert samples.seconds is not None
    assert samples.seconds.value == pytest.approx(2.0 * samples.rows.value + 32.0)
    assert samples.load == 9.0


def test_receipts_that_cannot_be_read_are_passed_over(context: BuildContext, remember: Remember) -> None:
    remember("samples", 0, seconds=8.0)
    store = Store.open(context.store)
    store.write_bytes(f"artifacts/samples/{1:032x}/part-00000.json", b'{"stage": "samp')
    store.write_bytes(f"artifacts/samples/{2:032x}/part-00000.json", b"\xff\xfe")
    assert stage(estimate(context)[1], "samples").basis.startswith("from 1 partition of")


def test_what_was_rejected_before_brings_further_rounds(context: BuildContext, remember: Remember) -> None:
    for number in range(20):
        for place, concept in enumerate(("gear", "bench")):
            remember("verdicts", 100 * place + number, 0.1, rows=4, rejected=3 * place, concept=concept)
    _, found = estimate(context)
    assert [round(each.share, 1) for each in found.yields] == [1.0, 0.3]
    assert found.rounds.value > 1.9
    assert found.images.low > 24
    assert found.accepted.value < 15  # of benches a quarter passes, and there are two rounds at most
    assert "verdicts of this concept by these gates and generator" in found.yields[1].basis


def test_a_new_concept_is_judged_by_the_others(context: BuildContext, remember: Remember) -> None:
    for number in range(20):
        remember("verdicts", number, 0.1, rejected=2)
    own, new = estimate(context)[1].yields
    assert "this concept" in own.basis
    assert "other concepts" in new.basis
    assert own.share == pytest.approx(new.share, abs=0.01)
    assert new.passed + new.rejected < own.passed + own.rejected


def test_more_images_are_never_cheaper(context: BuildContext, remember: Remember) -> None:
    for number in range(6):
        remember("samples", number, seconds=7.0 + number)
        remember("verdicts", number, seconds=0.4, rejected=1)
    totals = []
    for wanted in (9, 30, 90, 300):
        concepts = [c.model_copy(update={"wanted": wanted}) for c in context.recipe.concepts]
        recipe = context.recipe.model_copy(update={"concepts": tuple(concepts)})
        totals.append(estimate(context.model_copy(update={"recipe": recipe}))[1].compute)
    for few, many in itertools.pairwise(totals):
        assert few.value < many.value
        assert few.low < many.low
        assert few.high < many.high


def test_an_accelerator_is_counted_in_hours_and_paid_for(context: BuildContext, remember: Remember) -> None:
    effort = {"device": "H100"}
    for number in range(5):
        remember("samples", number, seconds=3600.0, rows=4, effort=effort)
        remember("verdicts", number, seconds=1.0)
        remember("verdicts", number + 10, seconds=1.0, concept="bench")
    plan, found = estimate(context, prices=Prices(accelerator_hour=2.0, gigabyte_month=0.02))
    samples = stage(found, "samples")
    assert samples.seconds is not None
    assert samples.device == "H100"
    assert found.accelerator == samples.seconds
    assert found.costs["accelerator"].value == pytest.approx(2 * samples.rows.value / 4)
    assert set(found.costs) == {"accelerator", "storage_month"}
    assert found.costs["storage_month"].value == pytest.approx(found.bytes.value * 0.02 / 1e9)
    assert to_json(plan, found)["expected"]["accelerator_hours"]["value"] == pytest.approx(samples.rows.value / 4)


def test_a_version_grows_by_its_tables_alone(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path), create=True)
    recipe = make_recipe()
    publish_build(make_build(store, recipe, {"gear": 8, "hook": 8}), {"report/index.html": b"x" * 1000})
    version = last_version(store, recipe.name)
    assert version is not None
    few, many, copied = (
        expect_version(version, exactly(samples), linked)
        for samples, linked in ((100, True), (200, True), (100, False))
    )
    fixed = sum(version.files[name].bytes for name in ("README.md", "croissant.json", "report/index.html"))
    assert many.value - fixed == pytest.approx(2 * (few.value - fixed))
    shards = sum(shard.bytes for shard in version.shards)
    assert copied.value - few.value == pytest.approx(shards * 100 / version.counts.samples)


def test_the_wall_lies_between_perfect_overlap_and_none() -> None:
    def cost(name: str, seconds: float, load: float = 0.0) -> StageCost:
        return StageCost(name, exactly(1), exactly(4), exactly(seconds), None, load, "cpu", "")

    stages = [cost("samples", 60, load=5), cost("masks", 30), cost("verdicts", 30)]
    assert expect_wall(stages, 1) == exactly(125)
    assert expect_wall(stages, 2) == Interval(95, 65, 125)
    assert expect_wall(stages, 64) == Interval(95, 65, 125)  # the model renders one batch at a time


def test_what_lies_between_steps_is_learnt_from_earlier_builds(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path), create=True)
    assert read_paces(store, "tiny") == []
    for wall in (13.0, 11.0, 30.0):
        seconds = {"compute_seconds": 18.0, "drawing_seconds": 8.0, "load_seconds": 1.0, "wall_seconds": wall}
        keep_pace(store, {"name": "tiny", "work": {"samples": 4, "masks": 6}} | seconds, workers=2)
    keep_pace(store, {"name": "tiny", "work": {}}, workers=2)
    paces = read_paces(store, "tiny")
    assert [pace.between for pace in paces] == pytest.approx([0.3, 0.1, 2.0])
    stages = [StageCost("masks", exactly(10), exactly(4), exactly(40), None, 2.0, "cpu", "")]
    wall = expect_wall(stages, 4, paces)
    assert (wall.value, wall.low, wall.high) == pytest.approx((10 + 2 + 3, 10 + 2 + 1, 40 + 2 + 20))
    elsewhere = [pace.model_copy(update={"machine": "another"}) for pace in paces]
    assert expect_wall(stages, 4, elsewhere) == expect_wall(stages, 4)
    store.write_bytes("pace/tiny.json", b"[{")
    assert read_paces(store, "tiny") == []


def test_the_command_prints_one_document(context: BuildContext, remember: Remember, command: Any) -> None:
    for number in range(3):
        remember("samples", number, seconds=8.0)
    words = ("plan", f"{context.folder}/tiny.yaml", "--store", context.store, "--json", "--machine-price", "3")
    code, out, err = command(*words)
    assert code == 0, err
    found = json.loads(out)
    assert (found["images"], found["complete"], found["expected"]["workers"] > 0) == (24, False, True)
    for figure in ("compute_seconds", "wall_seconds", "accelerator_hours", "bytes", "images"):
        part = found["expected"][figure]
        assert part["low"] <= part["value"] <= part["high"]
    assert set(found["expected"]["cost"]) == {"machine"}
    samples = next(each for each in found["stages"] if each["stage"] == "samples")
    assert samples["seconds"]["value"] > 0
    assert samples["basis"].startswith("from 3 partitions")
    code, out, err = command(*words[:4])
    assert code == 0, err
    assert "wall time" in out


def test_a_count_with_bounds_agrees_with_its_noun() -> None:
    assert count_between(exactly(1.2), "round") == "1 round"
    assert count_between(exactly(3), "round") == "3 rounds"
    assert count_between(Interval(1, 1, 2), "round") == "1 (1 to 2) rounds"


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (exactly(0.3), "under 1 s"),
        (exactly(41.26), "41 s"),
        (Interval(337.2, 240, 1000), "5.6 min (4 to 17)"),
        (exactly(7261.0), "2 h"),
        (exactly(400_000.0), "4.6 days"),
        (None, ""),
    ],
)
def test_times_have_two_digits(interval: Interval | None, text: str) -> None:
    assert show_time(interval) == text


def test_sizes_and_counts_as_people_read_them() -> None:
    assert show_size(Interval(1_234_567, 1_000_000, 2_000_000)) == "1,200 kB (1,000 to 2,000)"
    assert show_count(exactly(1234)) == "1,234"
    assert show_count(Interval(101.4, 96, 112)) == "101 (96 to 112)"
