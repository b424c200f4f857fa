"""Show a plan and its estimate as text, to two digits, and as JSON."""

import os
from dataclasses import asdict
from typing import Any

from tailforge.catalog.store import Store
from tailforge.flows.build.walk import Plan, plan_build
from tailforge.flows.estimate.cost import Estimate, StageCost, estimate_cost
from tailforge.flows.estimate.rates import Interval
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.prices import Prices

PLAN_COLUMNS = ("stage", "finished", "to do", "rows to do", "time", "size")
UNITS = ((1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "days"))
BYTES = ((1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"))


def to_json(plan: Plan, estimate: Estimate) -> dict[str, Any]:
    """Return one JSON document: counts of the plan, then the estimate per stage and in sum."""
    names = ("complete", "concepts", "wanted", "images", "finished_images", "unread_prompts", "notes")
    counted = {name: getattr(plan, name) for name in names}
    costs = {cost.stage: cost for cost in estimate.stages}
    stages = [asdict(stage) | _stage_json(costs.pop(stage.stage, None)) for stage in plan.stages]
    nothing = {"finished": 0, "missing": 0, "missing_rows": 0}
    stages += [{"stage": stage} | nothing | _stage_json(cost) for stage, cost in costs.items()]
    return counted | {"stages": stages, "expected": estimate.to_json()}


def _stage_json(cost: StageCost | None) -> dict[str, Any]:
    names = ("steps", "rows", "seconds", "bytes", "load", "device", "basis")
    known = {} if cost is None else asdict(cost)
    return {name: known.get(name) for name in names}


def list_rows(plan: Plan, estimate: Estimate) -> list[list[str]]:
    """Return one row of cells per stage, under PLAN_COLUMNS."""
    finished = {stage.stage: stage.finished for stage in plan.stages}
    costs = {cost.stage: cost for cost in estimate.stages}
    rows = []
    for stage in dict.fromkeys([*finished, *costs]):
        cost = costs.get(stage)
        cells = ["", "", "", ""] if cost is None else _cells(cost)
        rows.append([stage, str(finished.get(stage, 0)), *cells])
    return rows


def _cells(cost: StageCost) -> list[str]:
    time, size = show_time(cost.seconds), show_size(cost.bytes)
    return [show_count(cost.steps), show_count(cost.rows), time, size]


def describe(plan: Plan, estimate: Estimate) -> list[str]:
    """Return the lines of text below the table of stages."""
    requested = f"{count_of(plan.wanted, 'image')} of {count_of(plan.concepts, 'concept')} requested"
    if plan.complete:
        return [f"{requested}; everything is finished", *plan.notes]

    return [
        f"{requested}; the first round makes {plan.images:,}; {plan.finished_images:,} finished",
        *plan.notes,
        *_describe_rounds(estimate),
        *(f"cost of {', '.join(stages)}: {basis}" for basis, stages in _group_stages(estimate).items()),
        *_describe_sums(estimate),
        *(f"cost, {name.replace('_', ' per ')}: {show_number(cost)}" for name, cost in estimate.costs.items()),
        *_describe_unknown(estimate),
    ]


def describe_left(context: BuildContext, prices: Prices) -> str:
    """Return the work that a build still has to do, by its plan: images, time and money."""
    plan = plan_build(context)
    estimate = estimate_cost(Store.open(context.store), context, plan, os.cpu_count() or 1, prices)
    costs = (f"{name}: {show_number(cost)}" for name, cost in estimate.costs.items() if name != "storage_month")
    parts = [f"{count_between(estimate.images, 'image')} to draw", f"wall time {show_time(estimate.wall)}", *costs]
    return f"Left: {', '.join(parts)}"


def _describe_rounds(estimate: Estimate) -> list[str]:
    """Return lines on the images, the rounds and the shares that pass."""
    if not estimate.yields:
        return []
    images, rounds = count_between(estimate.images, "image"), count_between(estimate.rounds, "round")
    return [
        f"expected: {images} to make, {rounds}, {show_count(estimate.accepted)} accepted",
        *(f"expected acceptance: {shares}" for shares in _group(estimate)),
    ]


def _describe_sums(estimate: Estimate) -> list[str]:
    """Return lines on time and bytes in all."""
    if not estimate.compute.value:
        return []
    wall, workers = show_time(estimate.wall), count_of(estimate.workers, "worker")
    overhead = "" if estimate.paces else ", without the overhead of steps, which a first build measures"
    left_out = ", without the version's tables, card and report" if estimate.version_bytes is None else ""
    return [
        f"computing: {show_time(estimate.compute)}; wall time: {wall} with {workers}{overhead}",
        f"accelerator: {show_time(estimate.accelerator) if estimate.accelerator.high else '0 h'}",
        f"new in the store: {show_size(estimate.bytes)}{left_out}",
    ]


def _describe_unknown(estimate: Estimate) -> list[str]:
    """Return a line on stages whose cost is unknown."""
    if not estimate.unknown:
        return []
    return [
        f"unknown cost, not in these sums: {', '.join(estimate.unknown)}; a first build of few images shows it "
        "(--set concepts.NAME.requested=8)"
    ]


def _group(estimate: Estimate) -> list[str]:
    """Return the concepts with their share that passes, and the basis of these shares in brackets."""
    groups: dict[str, list[str]] = {}
    for each in estimate.yields:
        words = each.basis.split(" ", 1)
        basis = words[1] if words[0].isdigit() else each.basis
        groups.setdefault(basis, []).append(f"{each.concept} {100 * each.share:.0f} %")
    return [f"{', '.join(names[:8])}{', ...' if len(names) > 8 else ''} ({basis})" for basis, names in groups.items()]


def _group_stages(estimate: Estimate) -> dict[str, list[str]]:
    """Return the stages by the basis of their cost."""
    groups: dict[str, list[str]] = {}
    for cost in estimate.stages:
        if cost.seconds is not None:
            groups.setdefault(cost.basis, []).append(cost.stage)
    return groups


def show_time(interval: Interval | None) -> str:
    """Return value and bounds of seconds, in the unit that fits the value; empty for None."""
    if interval is None:
        return ""
    if interval.high < 1:
        return "under 1 s"
    return _show(interval, UNITS)


def show_size(interval: Interval | None) -> str:
    """Return value and bounds of bytes, in the unit that fits the value; empty for None."""
    return "" if interval is None else _show(interval, BYTES)


def show_number(interval: Interval) -> str:
    """Return value and bounds to two digits."""
    return _show(interval, ((1.0, ""),))


def show_count(interval: Interval) -> str:
    """Return value and bounds as whole numbers, without bounds that are equal."""
    value, low, high = (f"{round(each):,}" for each in (interval.value, interval.low, interval.high))
    return value if low == high else f"{value} ({low} to {high})"


def count_between(interval: Interval, word: str) -> str:
    """Return a count with its noun, such as "1 round" or "1 (1 to 2) rounds"."""
    counts = {round(each) for each in (interval.value, interval.low, interval.high)}
    return count_of(counts.pop(), word) if len(counts) == 1 else f"{show_count(interval)} {word}s"


def _show(interval: Interval, units: tuple[tuple[float, str], ...]) -> str:
    size, unit = next((each for each in reversed(units) if interval.value >= 1.5 * each[0]), units[0])
    value, low, high = (_two_digits(each / size) for each in (interval.value, interval.low, interval.high))
    return f"{value} {unit}".strip() + (f" ({low} to {high})" if low != high else "")


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"
