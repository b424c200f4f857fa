"""What rounds of images start from, and what they leave."""

from collections.abc import Mapping
from dataclasses import dataclass

from tailforge.flows.build.plan_partitions import PlannedPartition
from tailforge.schemas.jobs import BuildContext, Prompt
from tailforge.schemas.receipts import EngineInputs, Receipt
from tailforge.tasks.artifacts.partitions import BuiltPartition

Prompts = Mapping[str, list[Prompt]]
Inputs = Mapping[str, EngineInputs]


@dataclass(frozen=True)
class Ready:
    """What all rounds read: prompts and inputs of the engine by concept. `unread`: as of `Selected`."""

    prompts: Prompts
    inputs: Inputs
    unread: dict[str, int]


@dataclass(frozen=True)
class Selected:
    """All rounds so far: planned and finished partitions, their selection, the size of each round by concept.

    `context`: that of the build; in a steered one its recipe requests what was spent. `accepted`: images by concept;
    `unread`: prompts by concept that are not drawn, since the generator does not read the concept in them.
    """

    context: BuildContext
    jobs: list[PlannedPartition]
    partitions: list[BuiltPartition]
    selection: Receipt
    rounds: list[dict[str, int]]
    accepted: dict[str, int]
    unread: dict[str, int]
