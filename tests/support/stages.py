"""Run stages as their Prefect task does, and steps of a stage that makes nothing."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from tailforge.flows.build.drive import Step
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.contract import Address, ArtifactKind, Made
from tailforge.tasks.artifacts.stage import Stage
from tailforge.tasks.stages.run import run_stage


def run(stage: Stage, store: str, *given: Any) -> Receipt:
    """Run a registered stage as its task does, with what it is given as JSON; return the receipt."""
    label = stage.locate(*given).label
    return Receipt.model_validate(run_stage.fn(stage.name, label, store, stage.write_given(given)))


def placed(address: Address, produce: Callable[[], pa.Table] | None = None) -> Stage:
    """Return a stage with one result, whose table `produce` makes."""
    kind = address.stage
    return Stage(
        name=kind.name,
        version=kind.version,
        schema=kind.schema,
        locate=lambda: address,
        produce=lambda workplace: Made((produce or kind.schema.empty_table)()),
    )


def step_of(stage: str, label: str) -> Step:
    """Return a step of a stage of that name."""
    kind = ArtifactKind(name=stage, version="1", schema=pa.schema([]))
    return Step(placed(Address(kind, 0, label, {}, {})), ())
