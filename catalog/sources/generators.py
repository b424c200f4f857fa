"""Locate a generator with everything that a recipe adds to it: LoRA files and a ControlNet."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tailforge.catalog.sources.loras import resolve_lora
from tailforge.catalog.sources.models import resolve_model
from tailforge.catalog.sources.references import open_photographs
from tailforge.schemas.jobs import ResolvedControl, ResolvedLora, ResolvedModel
from tailforge.schemas.settings.fields import ModelSource
from tailforge.schemas.settings.pipelines import ControlSource, PipelineSource


def resolve_generator_model(source: ModelSource, folder: Path, field: str) -> ResolvedModel:
    """Return a generator's location and digest, as `resolve_model` does, with its LoRA files and its ControlNet.

    The digest includes file and weight of each LoRA, in order, and the ControlNet with its images and settings.
    Errors: ModelError; RecipeError for the folder of images.
    """
    found = resolve_model(source, folder, field)
    if not isinstance(source, PipelineSource):
        return found
    loras = [resolve_lora(lora, folder, f"{field}.loras[{at}]") for at, lora in enumerate(source.loras)]
    control = None if source.control is None else resolve_control(source.control, folder, f"{field}.control")
    added = {"loras": tuple(loras), "control": control, "digest": _digest_whole(found, loras, control)}
    return found.model_copy(update=added)


def resolve_control(source: ControlSource, folder: Path, field: str) -> ResolvedControl:
    """Return the location of a ControlNet and its images. Errors: ModelError, RecipeError."""
    model = resolve_model(source, folder, field)
    images = [(each.file.name, each.sha256) for each in open_photographs(folder, source.images, f"{field}.images")]
    settings = [source.kind, f"{source.scale!r}", source.fit]
    return ResolvedControl(
        path=model.path,
        revision=model.revision,
        subfolder=model.subfolder,
        digest=_digest([model.digest, *settings, *(part for image in images for part in image)]),
        kind=source.kind,
        scale=source.scale,
        fit=source.fit,
        folder=str((folder / Path(source.images).expanduser()).resolve()),
        images=tuple(images),
    )


def _digest_whole(model: ResolvedModel, loras: Sequence[ResolvedLora], control: ResolvedControl | None) -> str:
    """Return the digest of a generator and what is added to it; that of the generator alone without additions."""
    added = [f"{lora.digest} {lora.weight!r}" for lora in loras] + ([control.digest] if control else [])
    return _digest([model.digest, *added]) if added else model.digest


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
