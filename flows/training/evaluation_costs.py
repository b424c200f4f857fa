"""Count the costs of an evaluation: seconds of training and of making the versions, and money by known prices."""

from collections.abc import Mapping, Sequence
from typing import Any

from tailforge.flows.build.queries import summary_view
from tailforge.flows.training.evaluation_inputs import Inputs, Request
from tailforge.flows.training.evaluation_runs import Trained
from tailforge.schemas.prices import HOUR_SECONDS, Prices


def count_costs(asked: Request, inputs: Inputs, made: Sequence[Trained]) -> dict[str, Any]:
    """Return seconds and money of the trainings and of making each version, None where not recorded.

    Seconds are those of computing, one after another. So is the money: work at the same time costs less per machine.
    """
    training: dict[str, list[float]] = {}
    for each in made:
        training.setdefault(each.run.arm, []).append(each.receipt.timings.get("compute", 0.0))

    # Arms that draw equal images share a training, which is paid once.
    distinct = {each.receipt.fingerprint: each.receipt.timings.get("compute", 0.0) for each in made}
    tests = [each.test.timings.get("compute", 0.0) for each in made if each.test is not None]
    spent = sum(distinct.values())
    making = {each.label: _read_making(asked.store, each.label) for each in inputs.versions}
    return {
        "training": {
            arm: {"runs": len(each), "seconds": round(sum(each), 1), "seconds_per_run": round(sum(each) / len(each), 1)}
            for arm, each in training.items()
        },
        "training_seconds": round(spent, 1),
        "test_seconds": round(sum(tests), 1),
        "generation_seconds": {label: None if each is None else each["seconds"] for label, each in making.items()},
        "prices": {"machine_hour": asked.prices.machine_hour, "accelerator_hour": asked.prices.accelerator_hour},
        "training_money": price_seconds(asked.prices, spent, 0.0),
        "generation_money": {
            label: None if each is None else price_seconds(asked.prices, each["seconds"], _count_accelerator(each))
            for label, each in making.items()
        },
    }


def price_seconds(prices: Prices, seconds: float, accelerator: float) -> float | None:
    """Return the money for seconds of a machine and of accelerators; None if a price that it needs is unknown."""
    if prices.machine_hour is None or (accelerator and prices.accelerator_hour is None):
        return None
    return round((seconds * prices.machine_hour + accelerator * (prices.accelerator_hour or 0.0)) / HOUR_SECONDS, 4)


def _read_making(store: str, label: str) -> dict[str, Any] | None:
    """Return the costs in a version's report; None for older reports."""
    found: dict[str, Any] | None = (summary_view(store, label) or {}).get("costs")
    return found


def _count_accelerator(costs: Mapping[str, Any]) -> float:
    """Return the seconds on accelerators."""
    return float(sum(spent for device, spent in costs.get("devices", {}).items() if device != "cpu"))
