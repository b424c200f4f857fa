"""What a version cost, by stage, concept and partition."""

from tailforge.schemas.effort import Effort
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.report.costs import count_costs, find_slowest
from tailforge.tasks.report.data import PartitionWork
from tailforge.tasks.report.outcomes import ConceptRow
from tests.support.report_tables import make_receipt


def make_step(stage: str, seconds: float, name: str, device: str = "", cold: bool = False, **more: object) -> Receipt:
    effort = Effort(like="0" * 12, version="1", machine="m", device=device, cold=cold) if device else None
    step = {"label": name, "uri": f"artifacts/{stage}/{name}", "fingerprint": name, "effort": effort, **more}
    return make_receipt(stage, 8, seconds).model_copy(update=step)


CONCEPTS = [ConceptRow(0, "gear", 4, 4, 0, 0, 0), ConceptRow(1, "hook", 2, 0, 0, 2, 0)]


def test_seconds_go_to_the_concept_whose_partition_took_them() -> None:
    gear = [make_step("samples", 30.0, "g", "GPU"), make_step("masks", 10.0, "g", "cpu")]
    hook, plan = make_step("samples", 5.0, "h", "GPU"), make_step("prompts", 1.0, "p")
    work = [PartitionWork("gear", tuple(gear)), PartitionWork("hook", (hook,))]
    costs = count_costs(CONCEPTS, [plan, *gear, hook], work, None)
    assert [(row.concept, row.total, row.each) for row in costs.concepts] == [
        ("gear", 40.0, 10.0),
        ("hook", 5.0, None),
        ("", 1.0, None),
    ]
    assert (costs.seconds, costs.each, costs.new_seconds) == (46.0, 11.5, None)
    assert (costs.devices, costs.accelerator_seconds) == ({"GPU": 35.0, "cpu": 10.0}, 35.0)


def test_new_work_is_what_the_version_before_did_not_hold() -> None:
    receipts = [make_step("samples", 30.0, "a"), make_step("samples", 5.0, "b"), make_step("prompts", 1.0, "p")]
    costs = count_costs(CONCEPTS, receipts, [], {"samples": ["a"]})
    assert costs.new_seconds == 5.0  # prompts are in no version's record


def test_bytes_count_the_files_beside_a_table() -> None:
    files = {"files": {"tar": {"uri": "x", "bytes": 900}}}
    costs = count_costs(
        CONCEPTS, [make_step("shards", 1.0, "s", details=files), make_step("samples", 1.0, "a")], [], None
    )
    assert costs.bytes == {"shards": 901, "samples": 1}


def test_the_slowest_lie_furthest_above_the_median_of_their_stage() -> None:
    samples = [make_step("samples", seconds, f"s{seconds:g}") for seconds in (10.0, 10.0, 12.0, 30.0)]
    masks = [make_step("masks", seconds, f"m{seconds:g}", "cpu", cold=seconds > 1) for seconds in (1.0, 1.0, 6.0)]
    alone = [make_step("selection", 500.0, "only")]
    first, second = find_slowest([*samples, *masks, *alone])
    assert (first.label, first.stage, first.seconds, first.times) == ("s30", "samples", 30.0, 30 / 11)
    assert (second.label, second.times, second.cold) == ("m6", 6.0, True)


def test_equal_partitions_and_no_time_have_no_slowest() -> None:
    assert find_slowest([make_step("samples", 3.0, str(k)) for k in range(4)]) == []
    assert find_slowest([make_step("samples", 0.0, str(k)) for k in range(4)]) == []
