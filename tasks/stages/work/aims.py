"""Measure references and plain samples, for stage `aims`."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tailforge.catalog.sources.references import open_references
from tailforge.schemas.errors import EngineError, RecipeError
from tailforge.schemas.jobs import PartitionJob
from tailforge.schemas.recipe import Concept
from tailforge.schemas.tables import AIMS
from tailforge.tasks.artifacts.contract import Made
from tailforge.tasks.artifacts.stage import Workplace
from tailforge.tasks.engines.search import search_engine
from tailforge.tasks.engines.work.search_inputs import read_aim, require_difference
from tailforge.tasks.methods.packing.arrays import encode_array
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.generator import ImageGenerator
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.sampling.plain import render_plain
from tailforge.tasks.methods.sampling.rendered import OUT_OF_MEMORY
from tailforge.tasks.methods.seed_select.aim import ImageEncoder
from tailforge.tasks.models.clip import load_clip
from tailforge.tasks.models.text_to_image import load_build_generator
from tailforge.tasks.stages.prompts import find_concept


def produce(_: Workplace, job: PartitionJob) -> Made:
    """Make the AIMS of a concept: features of its references and of plain samples.

    Errors: EngineError out of memory or with too few plain samples; RecipeError, ModelError.
    """
    assert job.build.encoder is not None
    clock = Clock()
    with clock.phase("load"):
        model, encoder = load_build_generator(job.build), load_clip(job.build.encoder)

    # One row per photograph, with feature and latent.
    digests = job.build.references[job.concept]
    photographs = read_references(job.build.folder, find_concept(job.build, job.concept), digests)
    rows: list[dict[str, Any]] = [
        {"kind": "reference", "sha256": sha256, "feature": feature(encoder, image), "latent": latent(model, job, image)}
        for sha256, image in zip(digests, photographs, strict=True)
    ]

    # One row per plain sample, drawn in few steps.
    few = search_engine(job.build).model_copy(update={"steps": search_engine(job.build).few_steps})
    for made in render_plain(model, job.samples, few, None, clock):
        if made.error == OUT_OF_MEMORY:
            raise EngineError(
                f"plain samples of {job.concept!r}: {OUT_OF_MEMORY}; ask for a smaller image or generator"
            )
        if made.pixels is not None:
            rows.append({"kind": "plain", "sha256": None, "feature": feature(encoder, made.pixels), "latent": None})

    aims = pa.Table.from_pylist(rows, AIMS)
    require_difference(job, read_aim(aims))
    return Made(aims, clock.idle)


def read_references(folder: str | None, concept: Concept, expected: tuple[str, ...]) -> list[NDArray[np.uint8]]:
    """Return the concept's photographs below `folder`, upright RGB, uint8 [H, W, 3] each, in file-name order.

    `expected`: their sha256 at the start of the build. Errors: RecipeError if they changed since.
    """
    photographs = list(open_references(Path(folder or "."), concept))
    if tuple(photograph.sha256 for photograph in photographs) != expected:
        raise RecipeError(
            f"concept {concept.name!r}: the folder of references changed while the dataset was built; build again"
        )
    return [np.asarray(each.image) for each in photographs]


@torch.no_grad()
def feature(encoder: ImageEncoder, pixels: NDArray[np.uint8]) -> list[float]:
    """Return the encoder's feature of one image, uint8 [H, W, 3], as a list of its length."""
    found: list[float] = encoder.embed_pixels(to_tensor(pixels[None]))[0].cpu().tolist()
    return found


@torch.no_grad()
def latent(model: ImageGenerator, job: PartitionJob, pixels: NDArray[np.uint8]) -> bytes:
    """Return the .npy of a photograph's latent, float32 [C, h, w].

    `pixels`: uint8 [H, W, 3], of which the centre is cropped to the shape of the engine's images.
    """
    engine = search_engine(job.build)
    height, width = engine.height or model.default_size[0], engine.width or model.default_size[1]
    fitted = ImageOps.fit(Image.fromarray(pixels), (width, height), Image.Resampling.BICUBIC)
    encoded = model.encode(to_tensor(np.asarray(fitted)[None]))[0]
    return encode_array(encoded.float().cpu().numpy())
