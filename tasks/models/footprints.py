"""Predict the memory of a build's generator: its weights, and the tensors of each phase of a batch.

Everything runs on fake tensors, see sketches.py: no weight is read, and nothing is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import torch
from safetensors import safe_open
from torch._subclasses.fake_tensor import FakeTensorMode

from tailforge.schemas.jobs import BuildContext, ResolvedModel
from tailforge.schemas.settings.engines import SeedSelectEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.footprint import count_decoding, count_denoising, count_peak, count_weights
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.sampling.plain import Sampling
from tailforge.tasks.methods.seed_select.footprint import count_gradient
from tailforge.tasks.models.clip import ClipScorer
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator
from tailforge.tasks.models.generator_files import check_safetensors
from tailforge.tasks.models.sketches import fake_mode, sketch_clip, sketch_generator

WHOLE = 4  # bytes of a weight of models beside the generator; they load in float32


@dataclass(frozen=True)
class Footprint:
    """Bytes that a build's generator needs. `weights`: of it and its guide. `phases`: by batch, the peak of each phase.

    `size`: height and width of an image in pixels. `dtype`: of the weights.
    """

    weights: int
    phases: dict[int, dict[str, int]]
    size: tuple[int, int]
    dtype: str


@dataclass(frozen=True)
class Sketches:
    """The models of fake tensors that draw a build's images, and the mode that their tensors belong to."""

    mode: FakeTensorMode
    model: DiffusersGenerator
    guide: DiffusersGenerator | None
    encoder: ClipScorer | None  # of the gradients, if the engine follows any


def predict_footprint(build: BuildContext, batches: Sequence[int], half: bool) -> Footprint:
    """Return the footprint of a build that samples a pipeline, for some sizes of its batch.

    `half`: in the half precision of an accelerator, else in float32. Errors: ModelError for missing or damaged files.
    """
    settings, mode = build.recipe.engine.sampling, fake_mode()
    assert settings is not None
    sketches = Sketches(
        mode,
        sketch_generator(build.require_generator(), half, mode),
        None if build.guide is None else sketch_generator(build.guide, half, mode),
        sketch_clip(build.encoder, mode) if build.encoder is not None and settings.differentiates else None,
    )
    model = sketches.model
    drawing = [each for each in (model, sketches.guide) if each is not None]
    height, width = model.default_size
    size = settings.height or height, settings.width or width
    return Footprint(
        weights=count_weights([network for each in drawing for network in each.networks]),
        phases={batch: _count_phases(build, sketches, batch, size) for batch in batches},
        size=size,
        dtype=str(model.dtype).removeprefix("torch."),
    )


def _count_phases(build: BuildContext, sketches: Sketches, batch: int, size: tuple[int, int]) -> dict[str, int]:
    """Return the peak of each phase of a batch, in bytes."""
    model, settings = sketches.model, build.recipe.engine.sampling
    assert settings is not None
    with sketches.mode, torch.no_grad():
        # Every text has the length that the text encoder reads.
        negative = (sketches.guide or model).encode_negative("") if settings.guidance > 1 else None
        text: Conditioning = model.encode_prompt(build.recipe.concepts[0].name).expand(batch)
        if build.require_generator().control is not None:
            text = replace(text, control=torch.zeros(batch, 3, *size, dtype=model.dtype))
        noise = torch.zeros(batch, *model.latent_shape(*size), dtype=model.dtype)
        phases = {
            "text": count_peak(lambda: model.encode_prompt(build.recipe.concepts[0].name)),
            "denoise": count_denoising(model, noise, text, negative, settings.guidance, sketches.guide),
            "decode": count_decoding(model, noise),
        }
        if sketches.encoder is not None and isinstance(settings, SeedSelectEngine):
            sampling = Sampling(model, settings, None, negative, Clock())
            phases["gradient"] = count_gradient(sampling, sketches.encoder, settings, noise, text)
    return phases


def count_beside(models: Sequence[ResolvedModel]) -> int:
    """Return the bytes of the weights of models beside the generator, which load in float32.

    Those of hub models and of packages are not counted. Errors: ModelError for a damaged file.
    """
    folders = {Path(model.path) / (model.subfolder or "") for model in models}
    return sum(_count_file(file) for folder in folders for file in sorted(folder.glob("*.safetensors")))


def _count_file(path: Path) -> int:
    check_safetensors(path)
    with safe_open(path, framework="numpy") as file:
        return sum(WHOLE * prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118  no dict
