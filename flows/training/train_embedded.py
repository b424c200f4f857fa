"""The flow that trains the embedded generator. A killed run resumes at its stage and step."""

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
    """Train from the recipe; return the model's folder and its success per part.

    `work_dir`: a local folder for pools, checkpoints and receipts; finished stages in it are not repeated.
    `models_dir`: parent of the model's folder, by default catalog/models. Errors: TrainingError for a run that
    diverged.
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
    """Writes log records to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        say(self.format(record))


def _show_progress() -> None:
    """Show one line per stage on standard error, and one per half minute of training."""
    lines = logging.getLogger(training_stages.__name__)
    lines.setLevel(logging.INFO)
    if not lines.handlers:
        shown = _Said()
        shown.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        lines.addHandler(shown)
