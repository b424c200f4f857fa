"""Draw the pictures of a measurement during training: a row per class, or a few prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

from tailforge.schemas.training.generator import CLASS_ROWS, ValidationSettings
from tailforge.tasks.methods.generator_training.batches import Examples
from tailforge.tasks.models.pipeline_folders import draw_images

COLUMNS = 8  # of pictures without classes


@dataclass(frozen=True)
class Previews:
    """Prompts of the pictures of a measurement, row by row. `classes`: the class per row; empty without classes."""

    prompts: Sequence[str]
    columns: int
    classes: Sequence[str] = ()


def plan_previews(settings: ValidationSettings, measured: Examples, learnt: Examples) -> Previews:
    """Return what a measurement draws: the named prompts, else captions of each class, else captions of the images.

    Of too many classes the rarest get a row, the rarest first.
    """
    groups = {} if settings.prompts else {name: rows for name, rows in learnt.by_class().items() if name is not None}
    if groups:
        rarest = sorted(groups, key=lambda name: len(groups[name]))[:CLASS_ROWS]
        captions = [learnt.take(groups[name][: settings.per_class])[1] for name in rarest]
        prompts = [each for own in captions for each in islice(cycle(dict.fromkeys(own)), settings.per_class)]
        return Previews(prompts, settings.per_class, [str(name) for name in rarest] if prompts else ())

    named = settings.prompts or dict.fromkeys(measured.take(slice(0, settings.images))[1])
    return Previews(list(islice(cycle(named), settings.images)), min(COLUMNS, max(settings.images, 1)))


def draw_previews(
    pipeline: StableDiffusionPipeline, previews: Previews, steps: int, guidance: float
) -> NDArray[np.uint8]:
    """Return a sheet of pictures, uint8 [H, W, 3]. Picture k has the noise of seed k in every measurement."""
    pipeline.set_progress_bar_config(disable=True)
    seeds = list(range(len(previews.prompts)))
    drawn = draw_images(pipeline, previews.prompts, seeds, steps, guidance)

    # Fill the last row with black.
    columns, (height, width) = previews.columns, drawn.shape[1:3]
    whole = np.concatenate([drawn, np.zeros((-len(drawn) % columns, height, width, 3), np.uint8)])
    sheet = whole.reshape(-1, columns, height, width, 3).swapaxes(1, 2)
    return sheet.reshape(-1, columns * width, 3)
