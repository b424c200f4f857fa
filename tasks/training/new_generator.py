"""Make the untrained generator that a training recipe asks for by `network`, in the training's own folder."""

from pathlib import Path
from typing import Any

import numpy as np

from tailforge.catalog.sources.models import digest_model
from tailforge.schemas.errors import ImagesError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.training.generator import PixelNetwork
from tailforge.tasks.artifacts.contract import digest
from tailforge.tasks.images.captioned import CaptionedImages
from tailforge.tasks.models.pixel_generator import VERSION, PixelNorm, write_untrained
from tailforge.tasks.training.runs import finish_once

LEAST_SPREAD = 1e-3  # of pixels in -1..1


def make_generator(
    folder: Path, network: PixelNetwork, images: CaptionedImages, images_digest: str, seed: int
) -> ResolvedModel:
    """Return an untrained pipeline for these images, made once in a folder of its own.

    Errors: ImagesError for images of another size, or all of one colour.
    """
    decided = {
        "version": VERSION,
        "network": network.model_dump(mode="json"),
        "images": images_digest,
        "fit": images.fit,
        "seed": seed,
    }

    def produce(place: Path) -> dict[str, Any]:
        norm = measure_pixels(images, network)
        write_untrained(place / "pipeline", network.size, norm, images.captions, network.channels, seed)
        return {"mean": norm.mean, "std": norm.std}

    finish_once(folder / "network", digest(decided), produce)
    pipeline = folder / "network" / "pipeline"
    return ResolvedModel(path=str(pipeline), digest=digest_model(pipeline))


def measure_pixels(images: CaptionedImages, network: PixelNetwork) -> PixelNorm:
    """Return mean and standard deviation of all pixels per latent channel. Errors: ImagesError as `make_generator`."""
    count = 0
    total, squares = np.zeros(3), np.zeros(3)
    for pixels in images.read(*network.size):
        signed = pixels.reshape(-1, 3) / 127.5 - 1
        count += len(signed)
        total += signed.sum(0)
        squares += (signed**2).sum(0)

    # One channel for grey photographs: its values are the means of the colours.
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    if std.max() < LEAST_SPREAD:
        raise ImagesError(f"all pixels of {images.origin} have one colour; give photographs that show something")
    kept = [slice(0, 3)] if network.grey else [slice(0, 1), slice(1, 2), slice(2, 3)]
    return PixelNorm(
        tuple(float(mean[each].mean()) for each in kept),
        tuple(max(float(std[each].mean()), LEAST_SPREAD) for each in kept),
    )
