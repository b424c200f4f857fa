"""How long builds took from start to end beyond their computing: what Prefect, reading, writing and publishing cost.

Kept in the store as pace/<dataset>.json, the newest builds last, so that the next plan can count on it.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter

from tailforge.catalog.store import Store
from tailforge.schemas.effort import name_machine
from tailforge.schemas.errors import TailforgeError
from tailforge.schemas.settings.fields import Strict
from tailforge.tasks.artifacts.contract import describe_machine

KEPT = 20


class Pace(Strict):
    """One build: `steps` that were run by `workers` threads, seconds in all and `busy` seconds at the least."""

    machine: Annotated[str, AfterValidator(name_machine)]
    workers: int
    steps: int
    wall: float
    busy: float

    @property
    def between(self) -> float:
        """Seconds that a step costs beyond its computing."""
        return max(self.wall - self.busy, 0.0) / self.steps


PACES = TypeAdapter(list[Pace])


def busy_seconds(compute: float, alone: float, load: float, workers: int) -> float:
    """The least that a build can take: threads overlap perfectly, but for what needs the drawing model (`alone`)."""
    return max(compute / workers, alone) + load


def read_paces(store: Store, name: str) -> list[Pace]:
    """Those that were kept of a dataset's builds; none where they cannot be read."""
    with suppress(FileNotFoundError, ValueError):
        return PACES.validate_json(store.read(f"pace/{name}.json"))
    return []


def keep_pace(store: Store, made: Mapping[str, Any], workers: int) -> None:
    """Keep the pace of a build by what it says it did; a store that cannot keep it fails no build."""
    steps = sum(made["work"].values())
    if not steps:
        return
    busy = busy_seconds(made["compute_seconds"], made["drawing_seconds"], made["load_seconds"], workers)
    pace = Pace(
        machine=describe_machine(), workers=workers, steps=steps, wall=made["wall_seconds"], busy=round(busy, 2)
    )
    with suppress(TailforgeError):
        known = [*read_paces(store, made["name"]), pace][-KEPT:]
        store.write_bytes(f"pace/{made['name']}.json", PACES.dump_json(known, indent=1))
