"""Make an encoder from a version's images and masks: train it in a folder, write its files, report and probe."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tailforge.schemas.training.pretraining import AnyPretrainSettings, ContrastiveSettings, MaskedSettings
from tailforge.schemas.under_way import Watch
from tailforge.tasks.artifacts.contract import digest, library_versions
from tailforge.tasks.images.masked import MaskedImages
from tailforge.tasks.methods.classifiers.measure import measure_accuracy, summarise_losses
from tailforge.tasks.methods.classifiers.pictures import Pictures
from tailforge.tasks.methods.pretraining import caption, contrastive, encoders, masked, regions, views
from tailforge.tasks.methods.pretraining.caption import train_caption
from tailforge.tasks.methods.pretraining.contrastive import train_contrastive
from tailforge.tasks.methods.pretraining.masked import train_masked
from tailforge.tasks.methods.pretraining.probes import Split, probe_linear, probe_neighbours, read_features
from tailforge.tasks.methods.training_loop import Observe, Saved
from tailforge.tasks.models.encoders import load_encoder, save_encoder
from tailforge.tasks.training.runs import find_report, finish_report, run_in_folder

FORMAT = "tailforge-pretraining/1"
PROBE = "probe.json"
CHECKPOINT_EVERY_S = 20.0


@dataclass(frozen=True)
class _Trained:
    model: PreTrainedModel
    losses: Tensor
    tokenizer: PreTrainedTokenizerBase | None = None


def pretrain(
    images: MaskedImages,
    settings: AnyPretrainSettings,
    folder: Path,
    watch: Watch = lambda step, loss: None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
) -> dict[str, Any]:
    """Train an encoder in `folder`; return the report, which is in the folder's report.json.

    A killed run resumes at its last checkpoint and ends in the same bits (on a CPU, with as many threads). A finished
    one is not repeated. Errors: UserError for a folder that holds something else, TrainingError.
    """
    key = _key(images, settings)
    if finished := find_report(folder, key):
        return finished

    def train(saved: Saved, observe: Observe) -> _Trained:
        return _train(images, settings, saved, observe)

    # Train, write the encoder, and the report last.
    trained, seconds = run_in_folder(folder, key, checkpoint_every_s, settings.steps, train, watch)
    save_encoder(folder, trained.model, images.pixels.shape[1], trained.tokenizer)
    report = {
        "format": FORMAT,
        "key": key,
        "use": settings.use,
        "masks": images.masks,
        "training": {"origin": images.origin, "images": len(images), "regions": _count_regions(images)},
        "encoder": {
            "model": type(trained.model).__name__,
            "parameters": sum(value.numel() for value in trained.model.parameters()),
        },
        "settings": settings.model_dump(mode="json"),
        "losses": summarise_losses(trained.losses.numpy()),
        "minutes": round(seconds / 60, 2),
        "versions": library_versions(),
    }
    finish_report(folder, report)
    return report


def probe_encoder(
    folder: Path, training: Pictures, test: Pictures, origin: str, names: Sequence[str]
) -> dict[str, Any]:
    """Measure how well features of the encoder in `folder` separate classes; write probe.json and return it."""
    tokens = load_encoder(folder).tokens
    learnt, asked = (Split(read_features(tokens, each.images), each.labels) for each in (training, test))

    # A linear classifier and the nearest neighbours.
    found = {
        "origin": origin,
        "classes": list(names),
        "training_images": len(training),
        "linear": measure_accuracy(probe_linear(learnt, asked), test.labels),
        "neighbours": measure_accuracy(probe_neighbours(learnt, asked), test.labels),
    }
    (folder / PROBE).write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return found


def digest_images(images: MaskedImages) -> str:
    """Return the sha256 (hex) of everything that training reads."""
    whole = hashlib.sha256(json.dumps([images.pixels.shape, images.captions, images.nouns]).encode())

    # Regions are learnt only where there are masks.
    arrays: list[NDArray[Any]] = [images.pixels]
    if images.regions is not None:
        arrays += [images.regions.areas, images.regions.nouns, images.regions.scores]
    for array in arrays:
        whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()


def _key(images: MaskedImages, settings: AnyPretrainSettings) -> str:
    """Return the digest of everything that decides the encoder's weights."""
    shared = [encoders.VERSION, regions.VERSION, views.VERSION]
    own = {"contrastive": contrastive.VERSION, "masked": masked.VERSION, "caption": caption.VERSION}[settings.use]
    return digest(
        {
            "versions": [*shared, own],
            "settings": settings.model_dump(mode="json"),
            "images": digest_images(images),
        }
    )


def _train(images: MaskedImages, settings: AnyPretrainSettings, saved: Saved, observe: Observe) -> _Trained:
    """Train by the method that the settings name."""
    pixels, areas = images.pixels, images.regions
    if isinstance(settings, ContrastiveSettings):
        return _Trained(*train_contrastive(pixels, areas, settings, saved, observe))
    if isinstance(settings, MaskedSettings):
        return _Trained(*train_masked(pixels, areas, settings, saved, observe))
    model, losses, tokenizer = train_caption(pixels, images.captions, images.nouns, areas, settings, saved, observe)
    return _Trained(model, losses, tokenizer)


def _count_regions(images: MaskedImages) -> int:
    """Return the number of regions of things; the background is none."""
    return 0 if images.regions is None else int((images.regions.nouns > 0).sum())
