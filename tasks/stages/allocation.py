"""Stage `allocation`: the decision on one round of a steered build: images per concept, or why steering ends.

A decision that was made stays, with the seconds that it used: they are in the receipt and no part of the address. So a
build that goes on, and one that runs again in the same store, spend their images alike.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tailforge.schemas.allocation import AllocationJob
from tailforge.schemas.evaluation import DIGITS
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.allocation import GainAllocation
from tailforge.schemas.tables import ALLOCATION
from tailforge.tasks.artifacts.contract import Address, Made, digest
from tailforge.tasks.artifacts.stage import Stage, Workplace
from tailforge.tasks.methods.allocation.decide import Decision, Rules, decide_round
from tailforge.tasks.methods.allocation.posterior import History
from tailforge.tasks.stages.judges import settings_of

DECIDES = {"budget", "round", "rounds", "horizon", "least_gain"}  # settings of the allocation


def locate(job: AllocationJob) -> Address:
    """Return the address of a decision. The measured seconds are no part of it."""
    recipe = job.build.recipe
    measured = job.model_dump(mode="json", include={"drawn", "kept", "recall", "macro", "validation"})
    settings = {
        **settings_of(job.build).model_dump(mode="json", include=DECIDES),
        "batch": recipe.engine.batch_size,
        "limits": [[concept.name, concept.wanted] for concept in recipe.concepts],
        "seed": recipe.seed,
    }
    number = len(job.drawn)
    return Address(
        STAGE, part=0, label=f"allocation of round {number}", settings=settings, inputs={"measured": digest(measured)}
    )


def produce(_: Workplace, job: AllocationJob) -> Made:
    """Make the ALLOCATION of a round."""
    allocation = settings_of(job.build)
    history = History(job.drawn, job.kept, job.recall, job.validation)
    costs, left = count_costs(allocation, history, job.seconds)
    decision = decide_round(history, make_rules(job.build.recipe, allocation), costs, left)
    table = pa.Table.from_pylist(list_rows(job, history, decision), ALLOCATION)
    return Made(
        table, details={"seconds": [round(each, 4) for each in job.seconds], "costs": list(costs), "left": left}
    )


def count_costs(allocation: GainAllocation, history: History, seconds: Sequence[float]) -> tuple[list[float], float]:
    """Return the cost of one drawn image per concept, and what is left of the budget, in the budget's unit.

    `seconds`: spent per concept. An image of a concept that has none yet costs as much as the mean of the others.
    """
    drawn, budget = history.total_drawn, allocation.budget
    if budget.seconds is None:
        return [1.0] * len(drawn), float((budget.images or 0) - sum(drawn))
    mean = sum(seconds) / max(sum(drawn), 1) or 1.0
    costs = [own / images if images and own > 0 else mean for own, images in zip(seconds, drawn, strict=True)]
    return costs, budget.seconds - sum(seconds)


def make_rules(recipe: Recipe, allocation: GainAllocation) -> Rules:
    """Return the rules of a recipe: batches are those of the engine, the smallest unit that it draws."""
    batch = recipe.engine.batch_size
    return Rules(
        batch=batch,
        batches=max(1, allocation.round // batch),
        rounds=allocation.rounds,
        limits=tuple(concept.wanted for concept in recipe.concepts),
        horizon=allocation.horizon,
        least_gain=allocation.least_gain,
        seed=recipe.seed,
    )


def list_rows(job: AllocationJob, history: History, decision: Decision) -> list[dict[str, Any]]:
    """Return the rows of ALLOCATION, one per concept."""
    rows = []
    for place, concept in enumerate(job.build.recipe.concepts):
        rows.append(
            {
                "round": history.rounds,
                "concept": concept.name,
                "images": decision.images[place],
                "drawn": history.total_drawn[place],
                "kept": history.total_kept[place],
                "recall": round(history.recall[-1][place], DIGITS),
                "validation": history.validation[place],
                "gain": round(float(decision.mean[place]), 2 * DIGITS),
                "deviation": round(float(decision.deviation[place]), 2 * DIGITS),
                "chance": round(float(decision.chance[place]), DIGITS),
                "macro_recall": round(job.macro[-1], DIGITS),
                "expected": round(decision.expected, DIGITS),
                "spread": round(decision.spread, DIGITS),
                "stop": decision.stop,
            }
        )
    return rows


STAGE = Stage(name="allocation", version="1", schema=ALLOCATION, locate=locate, produce=produce)
