"""The order of training the embedded generator. A killed run continues at the stage and step it was in."""

import logging
from pathlib import Path
from typing import Any

from prefect import flow

from tailforge.catalog.sources.models import MODELS
from tailforge.flows.terminal.heartbeat import say
from tailforge.schemas.training.embedded import TrainingRecipe
from tailforge.tasks.training import embedded_stages as training_stages
from tailforge.tasks.training.embedded import (
    evaluate_generator,
    export_models,
    fit_autoencoder,
    fit_clip,
    fit_diffusion,
    fit_image_tower,
    fit_judges,
    render_pools,
)
from tailforge.tasks.training.embedded_stages import TrainingJob


@flow(name="train-embedded", log_prints=False)
def train_embedded(recipe: TrainingRecipe, work_dir: str, models_dir: str | None = None) -> dict[str, Any]:
    """Train by the recipe; return the model's folder and its success by part.

    `work_dir`: a local folder for pools, checkpoints and receipts; finished stages in it are not done again.
    `models_dir`: where the model's folder goes, by default catalog/models.
    Errors: TrainingError for a run that diverged.
    """
    _show_progress()
    models = Path(models_dir) if models_dir else MODELS
    job = TrainingJob(
        recipe=recipe, work_dir=str(Path(work_dir).resolve()), models_dir=str(models.resolve())
    ).model_dump(mode="json")
    render_pools(job)
    fit_autoencoder(job)
    fit_clip(job)
    fit_judges(job)
    fit_diffusion(job)
    fit_image_tower(job)
    export_models(job)
    rows = evaluate_generator(job)["measures"]["rows"]
    success = {row["arm"]: round(row["value"], 3) for row in rows if row["metric"] == "success"}
    return {"model": str(models / recipe.name), "success": success}


class _Said(logging.Handler):
    """Says what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def _show_progress() -> None:
    """A line on standard error for each stage, and every half minute of training."""
    lines = logging.getLogger(training_stages.__name__)
    lines.setLevel(logging.INFO)
    if not lines.handlers:
        shown = _Said()
        shown.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        lines.addHandler(shown)
