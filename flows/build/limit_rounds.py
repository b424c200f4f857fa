"""A further round that costs many times what the first did is told, and not begun unless somebody wants it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import RoundLimitError
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.report.units import show_seconds

DRAWING = ("inversions", "samples")  # stages that a round spends its time in
NAMED = 3


@dataclass(frozen=True)
class RoundSize:
    """What a round draws. `runs`: of an inversion, each of which makes images of all concepts; 0 for other engines."""

    images: int
    runs: int

    @property
    def work(self) -> int:
        """In the unit that the engine's time follows."""
        return self.runs or self.images


def exceeds(recipe: Recipe, first: RoundSize, planned: RoundSize) -> bool:
    """Whether a round costs more than `quality.round_limit` times the first."""
    limit = recipe.quality.round_limit
    return limit is not None and planned.work > limit * first.work


def require_round(
    recipe: Recipe,
    attempt: int,
    first: RoundSize,
    planned: RoundSize,
    receipts: Sequence[Receipt],
    shares: Mapping[str, tuple[int, int]],
) -> None:
    """Refuse round `attempt` (from 0), of which `planned` is still to be drawn, if it is too large.

    `shares`: of each concept that is short, images accepted and tried. Errors: RoundLimitError.
    """
    limit = recipe.quality.round_limit
    if limit is None or not exceeds(recipe, first, planned):
        return
    drawing = [receipt for receipt in receipts if receipt.stage in DRAWING]
    stage = "inversions" if planned.runs else "samples"
    made = sum(receipt.rows for receipt in drawing if receipt.stage == "samples")
    seconds = sum(receipt.timings.get("compute", 0.0) for receipt in drawing)
    steps = sum(receipt.stage == stage for receipt in drawing) if planned.runs else made
    pace = seconds / steps if steps else 0.0
    runs = f" in {count_of(planned.runs, 'run')} of the inversion" if planned.runs else ""
    time = f", about {show_seconds(pace * planned.work)} of computing" if pace else ""
    worst = sorted(shares.items(), key=lambda item: item[1][0] / max(item[1][1], 1))
    short = ", ".join(f"{name} {accepted:,} of {tried:,}" for name, (accepted, tried) in worst[:NAMED])
    more = f" and {len(worst) - NAMED} more" if len(worst) > NAMED else ""
    times = f"{planned.work / first.work:.3g} times the first round"
    raise RoundLimitError(
        f"round {attempt + 1} would draw {count_of(planned.images, 'image')}{runs}, {times}{time}, for few images are "
        f"accepted: {short}{more}. Finished work is kept. Loosen quality.gates; or publish what there is by "
        f"quality.max_rounds={attempt}; or go on by --yes or a quality.round_limit above {limit:g}"
    )
