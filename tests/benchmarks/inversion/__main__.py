"""NaturalInversion beside its baselines and real images. `make bench-inversion`.

`python -m tests.benchmarks.inversion [--mnist FILE] [--cifar10 FILE] [--work DIR] [--arms ...] [--seeds ...]` trains a
teacher and an independent verifier where DIR lacks them, makes the images and the student of each arm and seed that is
missing, each written whole (so it can be stopped), then writes docs/benchmarks/inversion.{json,md} and figures from
all that DIR holds. The Parquet files have columns split, label and image; TAILFORGE_MNIST and TAILFORGE_CIFAR10 name
them where the options do not, and a set without its file is passed over.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tailforge.schemas.settings.inversion import PRESETS, InversionSettings
from tailforge.schemas.training.classifiers import DistillSettings
from tailforge.tasks.methods.classifiers.distillation import teacher_loss
from tailforge.tasks.methods.classifiers.networks import build_student
from tailforge.tasks.methods.classifiers.pictures import Pictures
from tailforge.tasks.methods.classifiers.train import predict, train_on_views
from tailforge.tasks.methods.natural_inversion.contract import Inverted
from tailforge.tasks.methods.natural_inversion.invert import invert
from tailforge.tasks.methods.natural_inversion.labels import spread_labels
from tests.benchmarks.inversion.page import Section, measure_set, write_page
from tests.benchmarks.inversion.parts import Bench, open_bench, real_images
from tests.benchmarks.inversion.rows import STUDENT
from tests.benchmarks.inversion.sets import SETS, ImageSet

STEPS = 80
BATCH = 64
OURS: dict[str, Any] = {"steps": STEPS, "batch_size": BATCH}
PUBLISHED_ON_A_CPU: dict[str, Any] = {"preset": "cifar10", "steps": STEPS, "batch_size": BATCH}  # of 2000 and 256
RATES = {name: getattr(InversionSettings(), name) for name in ("generator_rate", "pyramid_rate", "alpha_rate")}
ARMS: dict[str, dict[str, Any]] = {
    "ours": OURS,
    "generator_only": OURS | {"form": "generator"},
    "pixel": OURS | {"form": "pixels"},
    "published": PUBLISHED_ON_A_CPU,
}
CHANGES: dict[str, dict[str, Any]] = {
    "without zero_start": {"zero_start": False},
    "without scale_free": {"scale_free": False},
    "without saved_pixels": {"saved_pixels": False},
    "without stale_features": {"stale_features": False},
    "with warm_start": {"warm_start": True},
    "a third of the rates": {name: rate / 3 for name, rate in RATES.items()},
    "twice the steps": {"steps": 2 * STEPS},
    "groups 2": {"groups": 2},
    "width 128": {"width": 128},
}
ABLATIONS = {f"ours/{name}": OURS | changes for name, changes in CHANGES.items()}
ABLATIONS |= {
    f"published/{name} the steps": PUBLISHED_ON_A_CPU | {"steps": times * STEPS}
    for name, times in {"twice": 2, "five times": 5}.items()
}
REAL = "real"
ALL_ARMS = [*ARMS, REAL, *ABLATIONS]


@dataclass(frozen=True)
class Made:
    """Images of one arm and seed and what making them took; `notes` are figures that only the maker knows."""

    pictures: Pictures
    notes: dict[str, float]


def make_images(bench: Bench, arm: str, seed: int, count: int) -> Made:
    """The images of an arm and seed."""
    if arm == REAL:
        pictures = real_images(bench, count, seed)
        found = predict(bench.teacher.logits, pictures.images, bench.scale)
        return Made(pictures, {"agreement": float((found == pictures.labels).mean())})
    settings = InversionSettings.model_validate((ARMS | ABLATIONS)[arm] | bench.images.engine)
    labels = [
        label
        for batch in range(count // settings.batch_size)
        for label in spread_labels(settings.batch_size, len(bench.teacher.class_names), 1000 * seed + batch)
    ]
    started = time.process_time()  # other work on the machine does not count
    images = list(invert(bench.teacher, labels, range(10**6 * seed, 10**6 * seed + len(labels)), settings))
    seconds = time.process_time() - started
    pictures = _as_pictures(images, bench.teacher.channels)
    return Made(pictures, _describe(images) | {"images_per_second": len(images) / seconds})


def _as_pictures(images: list[Inverted], channels: int) -> Pictures:
    """As the teacher reads them: the three channels of a grey image are the same."""
    pixels = np.stack([image.pixels[..., :channels] for image in images if image.pixels is not None])
    return Pictures(pixels, np.array([image.label for image in images if image.pixels is not None], np.int64))


def _describe(images: list[Inverted]) -> dict[str, float]:
    """A failed image agrees with nothing."""
    return {
        "agreement": float(np.mean([bool(image.agrees_saved) for image in images])),
        "steps": float(np.mean([image.provenance["steps"] for image in images])),
    }


def teach_student(bench: Bench, pictures: Pictures, seed: int, steps: int) -> float:
    """Accuracy on the test images of a new student that saw these images alone."""
    teacher = bench.teacher
    student = build_student(STUDENT, teacher.class_names, teacher.channels, teacher.size, seed)
    settings = DistillSettings(student=STUDENT, steps=steps, batch=BATCH, seed=seed)
    loss_of = teacher_loss(teacher.logits, settings)
    train_on_views(student, pictures, bench.scale, settings, loss_of, None, lambda learner, loss: None)
    return float((predict(student.logits, bench.test.images, bench.scale) == bench.test.labels).mean())


def make_cell(file: Path, bench: Bench, arm: str, seed: int) -> None:
    """One arm and seed, written whole or not at all."""
    images = bench.images
    started = time.process_time()
    made = make_images(bench, arm, seed, images.count)
    accuracy = teach_student(bench, made.pictures, seed, images.kd_steps)
    values: dict[str, Any] = {
        "arm": arm,
        "images": made.pictures.images,
        "labels": made.pictures.labels,
        "student_accuracy": accuracy,
        "kd_steps": images.kd_steps,
        "cell_seconds": time.process_time() - started,
        **made.notes,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".tmp.npz")
    np.savez(beside, **values)
    beside.replace(file)
    print(f"{images.name}/{arm}, seed {seed}: {made.notes} student {accuracy:.4f}", flush=True)


def make_set(images: ImageSet, file: Path, words: argparse.Namespace) -> Section:
    """Make what is missing of one set, and measure all that there is."""
    bench = open_bench(images, file, words.work)
    folder = words.work / images.name
    for seed in words.seeds:
        for arm in words.arms:
            cell = folder / arm.replace("/", "__").replace(" ", "_") / f"{seed}.npz"
            if not cell.exists():
                make_cell(cell, bench, arm, seed)
    return measure_set(bench, folder)


def main() -> None:
    """Make what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in SETS:
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--work", type=Path, default=Path("work/inversion"))
    parser.add_argument("--arms", nargs="*", choices=ALL_ARMS, default=[REAL, *ARMS])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    words = parser.parse_args()
    files = {name: images.find_file(getattr(words, name)) for name, images in SETS.items()}
    torch.set_num_threads(1)
    sections = [make_set(SETS[name], file, words) for name, file in files.items() if file]
    for name in [name for name, file in files.items() if file is None]:
        print(f"{name} passed over: name its Parquet file by --{name} or {SETS[name].variable}")
    if sections:
        facts = {"batch": BATCH, "steps": STEPS, "published_full": PRESETS["cifar10"]["steps"]}
        write_page(sections, facts)


if __name__ == "__main__":
    main()
