"""Train a classifier of a steered build, for stage `judges`, and let it judge images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load

from tailforge.catalog.images.resizing import resize_image
from tailforge.catalog.store import Store
from tailforge.schemas.allocation import JudgeJob
from tailforge.schemas.evaluation import WEIGHTS, Arm
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.options import Fit
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.contract import Made, read_table
from tailforge.tasks.artifacts.stage import Workplace
from tailforge.tasks.images.judged import JudgedImages, read_real
from tailforge.tasks.images.labelled import MODES
from tailforge.tasks.methods.evaluation.adjust import adjust_logits
from tailforge.tasks.methods.evaluation.classification import CLASSIFICATION
from tailforge.tasks.methods.evaluation.examples import Examples
from tailforge.tasks.methods.evaluation.fit import use_one_thread
from tailforge.tasks.methods.evaluation.metrics import softmax
from tailforge.tasks.methods.evaluation.models import Model, predict_parts, preset_model
from tailforge.tasks.methods.packing.members import decode_published
from tailforge.tasks.stages import trials
from tailforge.tasks.stages.judges import NUMBERS, read_chosen, real_of, settings_of
from tailforge.tasks.stages.trials import RealData, Trial

STEERED = "steered"  # name of the arm, and of the source of its synthetic images
Pixels = NDArray[np.uint8]


def produce(workplace: Workplace, job: JudgeJob) -> Made:
    """Train the classifier; return its measurements, and keep the chosen weights.

    Errors: RecipeError if the real images changed; ImagesError, TrainingError, StoreError.
    """
    real = load_real(job.build)
    added = _read_added(workplace.store, job)
    with one_thread():
        made = trials.produce(workplace, make_trial(job, real, added))
    told = {NUMBERS: list(real.validation.examples.counts), "dropped": list(real.dropped)}
    return Made(made.table, made.timings, {**made.details, **told})


def make_trial(job: JudgeJob, real: JudgedImages, added: Examples) -> Trial:
    """Return the training of a job: balanced classes, and a share of `added` images in the draws of the concepts.

    The share grows with their number, so that a few images do not fill half of the draws.
    """
    resolved, allocation = real_of(job.build), settings_of(job.build)
    own, rare = real.train.examples, tuple(sorted(resolved.numbers))
    beside = sum(own.counts[number] for number, images in enumerate(added.counts) if images)
    share = min(allocation.share, len(added) / max(beside + len(added), 1))
    arm = Arm(name=STEERED, source=STEERED if len(added) else "", share=share)
    data = RealData(resolved.classes, own, real.validation.examples, rare)
    return Trial(arm, job.seed, allocation.judge.fit, model_of(job.build), data, {STEERED: added})


def model_of(build: BuildContext) -> Model:
    """Return the network of all classifiers."""
    name, preset = next(iter(CLASSIFICATION.presets.items()))
    return preset_model(name, preset, real_of(build).channels)


@contextmanager
def one_thread() -> Iterator[None]:
    """Make torch compute on one thread within the block, as equal bits need."""
    before = torch.get_num_threads()
    use_one_thread()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_real(build: BuildContext) -> JudgedImages:
    """Return the real images of a build, read once per process. Errors: those of `read_real`."""
    return _load_real(build.model_dump_json(include={"store", "recipe", "folder", "generator", "references", "real"}))


@lru_cache(maxsize=1)
def _load_real(build: str) -> JudgedImages:
    return read_real(BuildContext.model_validate_json(build))


def _read_added(store: Store, job: JudgeJob) -> Examples:
    """Return the images that the rounds of a job kept, with their classes."""
    images, labels = [read_rows(store, job.build, (), ())], [number_concepts(job.build, ())]
    for finished in job.rounds:
        kept = read_table(store, finished.preferences, ["concept", "partition", "row", "reason"])
        rows = [row for row in kept.to_pylist() if row["reason"] is None]
        images.append(read_rows(store, job.build, finished.samples, [(row["partition"], row["row"]) for row in rows]))
        labels.append(number_concepts(job.build, [row["concept"] for row in rows]))
    return Examples(np.concatenate(images), np.concatenate(labels), len(real_of(job.build).classes))


def number_concepts(build: BuildContext, names: Sequence[str]) -> NDArray[np.int64]:
    """Return the class in the real images of each concept in `names`."""
    concepts = [concept.name for concept in build.recipe.concepts]
    numbers = dict(zip(concepts, real_of(build).numbers, strict=True))
    return np.array([numbers[name] for name in names], np.int64).reshape(-1)


def read_rows(
    store: Store, build: BuildContext, samples: Sequence[Receipt], places: Sequence[tuple[int, int]]
) -> Pixels:
    """Return images of some rows of a round's partitions, [N, H, W, C], as published and in the classifiers' format.

    `places`: (partition, row) per image. Images of another size are resized, with `exact` stretched. Errors:
    StoreError, PictureError.
    """
    real, sharding = real_of(build), build.recipe.sharding
    fit: Fit = "stretch" if real.fit == "exact" else real.fit
    tables = {number: read_table(store, samples[number], ["image"])["image"] for number in {each for each, _ in places}}
    found = np.empty((len(places), real.height, real.width, real.channels), np.uint8)
    for place, (number, row) in enumerate(places):
        shown = Image.fromarray(decode_published(tables[number][row].as_py(), sharding)).convert(MODES[real.channels])
        pixels = np.asarray(resize_image(shown, (real.height, real.width), fit), np.uint8)
        found[place] = pixels.reshape(found.shape[1:])
    return found


def predict_shares(store: Store, build: BuildContext, judge: Receipt, images: Pixels) -> NDArray[np.float64]:
    """Return the class probabilities [N, K] of images [N, H, W, C] by a trained classifier. Errors: StoreError."""
    classes, model, chosen = len(real_of(build).classes), model_of(build), read_chosen(store, judge)
    network = model.build(classes, 0)
    network.load_state_dict(load(store.read(judge.details["files"][WEIGHTS]["uri"])))

    # Adjusted as validation chose.
    frequencies = load_real(build).train.examples.units
    unlabelled = Examples(images, np.zeros(len(images), np.int64), classes)
    with one_thread():
        parts = [logits for _, logits in predict_parts(network, model, unlabelled, CLASSIFICATION.part)]
    logits = np.concatenate([np.zeros((0, classes)), *parts])
    return softmax(adjust_logits(logits, frequencies, float(chosen["strength"])))
