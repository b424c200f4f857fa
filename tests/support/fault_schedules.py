"""Schedules of faults, drawn from a seed: what goes wrong in a build, at which stage and at which moment of it.

A fault strikes at one operation of the build on its store: the n-th read, write, sync or rename of a file that belongs
to one stage. `n` is drawn as a share (`moment`) of what an undisturbed build does there, so that a schedule holds for
every recipe.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product

# What goes wrong. How it is done stands in tests/support/fault_runs.py.
KINDS = (
    "killed",  # SIGKILL to the build
    "worker_lost",  # SIGKILL to a worker process of a build with --runner processes
    "store_error",  # operations on the store answer EIO
    "disk_full",  # the disk of the store has no room left
    "corrupt",  # bytes of what the stage left are flipped or gone
    "clock_back",  # the clock of the machine goes back, in a build and between builds
    "two_builds",  # a second build of the same recipe, at the same time
)
OBJECT_STORE_KINDS = ("killed", "store_error", "two_builds")  # those that tests/support/fault_object_store.py can do
# In the order of a build. Everything under datasets/ belongs to the publication.
STAGES = (
    "prompts",
    "samples",
    "masks",
    "verdicts",
    "selection",
    "augmented",
    "shard_plan",
    "shards",
    "publication",
)
OPERATIONS = ("read", "write", "sync", "rename")
FAULTS_EACH = 2


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong; `moment` and `amount` are in [0, 1): when in its stage, and how much of it.

    A `final` fault may leave the build alive, for the product to cope with at once; another one ends it, so that the
    next fault finds work under way.
    """

    kind: str
    stage: str
    operation: str
    moment: float
    amount: float
    final: bool

    def place(self, counts: Mapping[str, int]) -> int:
        """Which operation it strikes at, from 1; `counts` are those of an undisturbed build, by "stage/operation"."""
        return 1 + int(self.moment * counts.get(f"{self.stage}/{self.operation}", 1))

    def __str__(self) -> str:
        return f"{self.kind} at {self.stage} ({self.operation} {self.moment:.2f}, {self.amount:.2f})"


@dataclass(frozen=True)
class Schedule:
    """Faults in the order of their stages; one strikes each of the first builds, later builds are left alone."""

    seed: int
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return f"schedule {self.seed}: " + "; ".join(map(str, self.faults))


def draw_schedules(count: int, seed: int, kinds: Sequence[str] = KINDS) -> list[Schedule]:
    """Every kind meets every stage once before any pair comes again."""
    draws = random.Random(seed)
    pairs = list(product(kinds, STAGES))
    draws.shuffle(pairs)
    taken = list(islice(cycle(pairs), FAULTS_EACH * count))
    schedules = []
    for number in range(count):
        own = sorted(taken[FAULTS_EACH * number : FAULTS_EACH * (number + 1)], key=_order)
        faults = [
            Fault(kind, stage, draws.choice(OPERATIONS), draws.random(), draws.random(), (kind, stage) == own[-1])
            for kind, stage in own
        ]
        schedules.append(Schedule(number, tuple(faults)))
    return schedules


def _order(pair: tuple[str, str]) -> tuple[int, bool]:
    """By stage; a published version is damaged when it is there."""
    kind, stage = pair
    return STAGES.index(stage), kind == "corrupt"
