"""Record the wall time of builds, so that the next plan knows their overhead beyond computing.

The overhead is the time of Prefect, of reading and writing, and of publication. The record is pace/<dataset>.json in
the store, newest builds last.
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

KEPT = 20  # builds per dataset


class Pace(Strict):
    """One build: its executed `steps`, its threads, `wall` seconds in all, and `busy` seconds of computing at least."""

    machine: Annotated[str, AfterValidator(name_machine)]
    workers: int
    steps: int
    wall: float
    busy: float

    @property
    def between(self) -> float:
        """Return the seconds per step beyond computing."""
        return max(self.wall - self.busy, 0.0) / self.steps


PACES = TypeAdapter(list[Pace])


def busy_seconds(compute: float, alone: float, load: float, workers: int) -> float:
    """Return the fewest seconds of a build, if threads overlap perfectly.

    `compute`: of all stages. `alone`: of stages that share the generator. `load`: of loading models.
    """
    return max(compute / workers, alone) + load


def read_paces(store: Store, name: str) -> list[Pace]:
    """Return the recorded builds of a dataset, or none if the record is missing or damaged."""
    with suppress(FileNotFoundError, ValueError):
        return PACES.validate_json(store.read(f"pace/{name}.json"))
    return []


def keep_pace(store: Store, made: Mapping[str, Any], workers: int) -> None:
    """Record a build from its outcome. A store that refuses the record does not fail the build."""
    # A build without steps shows no overhead per step.
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
