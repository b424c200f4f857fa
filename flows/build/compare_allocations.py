"""Build a steered recipe and, for a fair comparison, the same recipe with as many images spent evenly."""

import math
from collections.abc import Sequence
from typing import Any

from tailforge.flows.build.queries import summary_view
from tailforge.flows.build.run import run_build
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.settings.workers import WorkerSettings
from tailforge.tasks.stages.masks import STAGE as MASKS
from tailforge.tasks.stages.samples import STAGE as SAMPLES
from tailforge.tasks.stages.verdicts import STAGE as VERDICTS

EVEN = "-even"  # ending of the uniform dataset's name
GENERATION = (SAMPLES.name, MASKS.name, VERDICTS.name)  # stages whose seconds are compared


def compare_allocations(
    recipe: str, store: str, overrides: Sequence[str] = (), settings: WorkerSettings | None = None
) -> dict[str, dict[str, Any]]:
    """Build a steered recipe, and a uniform one that draws as many images in one round; return both outcomes.

    The uniform dataset is called as the steered one with EVEN. Each outcome is that of `run_build`, with
    `drawn_images` and `generation_seconds`, which the stages samples, masks and verdicts took. Prompt sources fill
    whole batches, so both may differ somewhat: compare them before you compare the versions.
    Errors: RecipeError for a recipe that is not steered; those of `run_build`.
    """
    steered = run_build(recipe, store, overrides, settings)
    summary = summary_view(store, f"{steered['name']}@{steered['version']}")
    if summary["allocation"] is None:
        raise RecipeError(f"{recipe}: the allocation is uniform; compare a recipe with allocation: {{by: gain, ...}}")

    # The same number of images for each concept; each accepted one is published.
    rows = summary["allocation"]["rows"]
    each = math.ceil(sum(row["drawn"] for row in rows) / len(rows))
    even = [
        f"name={steered['name']}{EVEN}",
        "allocation={by: uniform}",
        "quality.oversample=1",
        "quality.max_rounds=1",
        *(f"concepts.{place}.requested={each}" for place in range(len(rows))),
    ]
    uniform = run_build(recipe, store, [*overrides, *even], settings)
    return {"steered": _measure(store, steered), "uniform": _measure(store, uniform)}


def _measure(store: str, made: dict[str, Any]) -> dict[str, Any]:
    """Return the outcome of a build with drawn images and seconds of generation."""
    summary = summary_view(store, f"{made['name']}@{made['version']}")
    drawn = sum(row["accepted"] + row["surplus"] + row["rejected"] for row in summary["concepts"])
    spent = [row["seconds"].get(stage, 0.0) for row in summary["costs"]["concepts"] for stage in GENERATION]
    return {**made, "drawn_images": drawn, "generation_seconds": round(sum(spent), 2)}
