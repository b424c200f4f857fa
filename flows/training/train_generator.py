"""The flow that trains or adapts a generator: encode the images, fit the UNet, write the model's folder.

A killed run resumes at its stage and step.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from prefect import flow

from tailforge.catalog.sources.models import MODELS, resolve_model
from tailforge.catalog.store import storage_errors
from tailforge.flows.build.read_prompts import note_captions
from tailforge.flows.terminal.heartbeat import say
from tailforge.flows.terminal.training_progress import say_left_out, show_training
from tailforge.schemas.errors import TrainingError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.training.generator import GeneratorTraining
from tailforge.schemas.under_way import Watch, working
from tailforge.tasks.images.captioned import open_captioned
from tailforge.tasks.models.checkpoints import write_whole
from tailforge.tasks.models.kinds import PIPELINE, require_kind
from tailforge.tasks.models.pretrained import pick_device
from tailforge.tasks.training.export_generator import export_generator, refuse_foreign
from tailforge.tasks.training.generator import fit_generator, load_curves
from tailforge.tasks.training.generator_stages import Work, encode_images
from tailforge.tasks.training.new_generator import make_generator
from tailforge.tasks.training.runs import hold_folder


@flow(name="train-generator", log_prints=False, validate_parameters=False)
def train_generator(
    recipe: GeneratorTraining, folder: str, work_dir: str, models_dir: str | None = None, devices: int = 1
) -> dict[str, Any]:
    """Train from the recipe; return the model's folder, its digest and the measures.

    `folder`: start of the recipe's relative paths. `work_dir`: a local folder for latents, checkpoints, logs and
    pictures; a training of the same name in it resumes. `models_dir`: parent of the model's folder, by default
    catalog/models. `devices`: processes that train together, each on its own accelerator.
    Errors: RecipeError, ModelError, ImagesError, NotFoundError, MissingExtraError before training starts;
    TrainingError.
    """
    load_curves()
    home = Path(folder)
    models = Path(models_dir).resolve() if models_dir else MODELS
    refuse_foreign(models / recipe.name)

    base = _find_base(recipe, home)
    images = open_captioned(recipe.images, home, recipe.learning.seed)
    say_left_out(images.origin, images.left_out)
    for note in note_captions(recipe.learning, base, images) if base is not None else ():
        say(note)

    place, learnt = Path(work_dir).resolve() / recipe.name, images.describe()
    with storage_errors("write", str(place)), hold_folder(place):
        if recipe.network is not None:
            base = make_generator(place, recipe.network, images, learnt.digest, recipe.learning.seed)
        assert base is not None  # the recipe has either
        work = Work(place, recipe, base, learnt.digest)
        with working(f"the images of {recipe.name}"):
            encode_images(work, images)
        with show_training(f"train {recipe.name}", recipe.learning.steps) as watch:
            measures = fit_generator(work, watch) if devices == 1 else _launch(work, devices, watch)
        with working(f"the folder of {recipe.name}"):
            made = export_generator(work, models, learnt, measures)
    return {**made, "work": str(work.folder), **measures}


def _find_base(recipe: GeneratorTraining, home: Path) -> ResolvedModel | None:
    """Return the model to start from, or None for a new one. Errors: ModelError."""
    if recipe.base is None:
        return None
    base = resolve_model(recipe.base, home, "base")
    require_kind(base, "base", PIPELINE)
    return base


def _launch(work: Work, devices: int, watch: Watch) -> dict[str, Any]:
    """Train in separate processes; the first writes one line per step. Errors: TrainingError."""
    job = {
        "folder": str(work.folder),
        "recipe": work.recipe.model_dump(mode="json"),
        "base": work.base.model_dump(mode="json"),
        "images_digest": work.images_digest,
    }
    file = work.folder / "job.json"
    write_whole(file, json.dumps(job).encode())

    options = ["--num_processes", str(devices), *(["--cpu"] if pick_device().type == "cpu" else ["--multi_gpu"])]
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        *options,
        "-m",
        "tailforge.tasks.training.generator",
        str(file),
    ]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            step, _, loss = line.partition(" ")
            if step.isdigit():
                watch(int(step), float(loss))

    if process.returncode:
        raise TrainingError(
            f"training on {devices} devices ended with exit code {process.returncode}; its own lines say why, and the "
            "same command resumes from the last checkpoint"
        )
    found: dict[str, Any] = json.loads((work.folder / "generator" / "measures.json").read_text(encoding="utf-8"))
    return found
