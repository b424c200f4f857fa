"""Whole inversions of small teachers: every known defect of the published code, and the switches of ours."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tailforge.schemas.errors import ModelError, RecipeError
from tailforge.schemas.settings.inversion import PRESETS, InversionSettings, NaturalInversionEngine
from tailforge.tasks.methods.natural_inversion.invert import invert
from tailforge.tasks.methods.natural_inversion.losses import inversion_losses
from tailforge.tasks.methods.natural_inversion.taps import Probe, examine
from tests.support.tiny_inversions import FAST, LABELS, SEEDS, logits_of, pixels_of, run, scale_of, small
from tests.support.tiny_teachers import (
    SharedActivation,
    TinyTeacher,
    WideResNet,
    calibrate,
    count_hooks,
    squeeze_net,
    state_digest,
    vgg,
)


@pytest.mark.parametrize("form", ["pyramid", "generator", "pixels"])
def test_a_run_lowers_what_it_minimises(form: str) -> None:
    weights = {"statistics_weight": 0.1, "variation_weight": 6e-3}
    changes = {"form": form, "score_every": 10, "generator_rate": 0.01, **weights}
    labels = [0, 1, 2, 0, 1, 2]
    (start, *_), images = (run(small(classes=3), labels, steps=steps, **changes) for steps in (1, 100))
    assert images[0].losses["total"] < 0.7 * start.losses["total"]
    assert images[0].losses["cross_entropy"] < start.losses["cross_entropy"]
    assert sum(bool(image.agrees_saved) for image in images) > 2  # a third would by chance
    assert {image.step for image in images} <= {80, 90, 100}


@pytest.mark.parametrize("preset", ["cifar10", "cifar100"])
@pytest.mark.parametrize("batch_size", [5, 6])
def test_the_final_images_of_every_batch_are_there(preset: str, batch_size: int) -> None:
    labels, seeds = [*LABELS, *LABELS], range(12)
    images = run(small(), labels, seeds, preset=preset, batch_size=batch_size)
    assert [image.label for image in images] == labels
    assert [image.provenance["seed"] for image in images] == list(seeds)
    assert pixels_of(images).shape == (12, 8, 8, 3)
    assert all(image.step == 6 and image.error is None and len(image.alpha or ()) == 3 for image in images)
    assert len(np.unique(pixels_of(images), axis=0)) == 12


def test_presets_hold_the_published_numbers() -> None:
    shared = {
        "variation_weight": 6e-3, "norm_weight": 1.5e-5, "generator_rate": 1e-3, "pyramid_rate": 5e-4,
        "alpha_rate": 0.05, "batch_size": 256, "latent_size": 1024, "width": 128, "alpha_start": 5.0,
        "jitter": 2, "flip": True,
    }  # fmt: skip
    own = {"cifar10": {"steps": 2000, "statistics_weight": 10.0}, "cifar100": {"steps": 4000, "statistics_weight": 3.0}}
    for preset, numbers in own.items():
        settings = InversionSettings.model_validate({"preset": preset})
        assert settings.model_dump(include=set(shared | numbers)) == shared | numbers
        assert settings.form == "pyramid"
        assert not settings.zero_start | settings.scale_free | settings.saved_pixels | settings.stale_features
        assert settings.stop_improvement is None
        changed = NaturalInversionEngine.model_validate({"preset": preset, "steps": 7})
        assert changed.steps == 7
        assert set(PRESETS[preset]) <= set(InversionSettings.model_fields)


def test_a_teacher_of_a_hundred_classes_is_inverted() -> None:
    images = run(small(classes=100), labels=[0, 17, 42, 63, 98, 99], steps=3)
    assert [image.label for image in images] == [0, 17, 42, 63, 98, 99]
    assert logits_of(images).shape == (6, 100)


@pytest.mark.parametrize("build", [vgg, WideResNet, squeeze_net])
@pytest.mark.parametrize("stale", [False, True])
def test_teachers_of_other_architectures_are_inverted(build: Any, stale: bool) -> None:
    torch.manual_seed(0)
    teacher = TinyTeacher(calibrate(build(), side=32), size=(32, 32))
    images = run(teacher, steps=2, stale_features=stale)
    assert pixels_of(images).shape == (6, 32, 32, 3)


def test_a_grey_teacher_gives_grey_images_of_its_own_size() -> None:
    torch.manual_seed(0)
    teacher = TinyTeacher(calibrate(SharedActivation(), 1, 14), (0.13,), (0.31,), (14, 11))
    pixels = pixels_of(run(teacher))
    assert pixels.shape == (6, 14, 11, 3)
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_one_seed_gives_equal_images_and_others_different_ones() -> None:
    first, again = run(small()), run(small())
    other = run(small(), seeds=[seed + 100 for seed in SEEDS])
    assert np.array_equal(pixels_of(first), pixels_of(again))
    assert torch.equal(logits_of(first), logits_of(again))
    assert (pixels_of(first) != pixels_of(other)).any(axis=(1, 2, 3)).all()


def test_the_teacher_stays_as_it_was_and_gets_no_gradient() -> None:
    teacher = small()
    teacher.module.train().requires_grad_(True)
    before = state_digest(teacher.module)
    run(teacher)
    assert state_digest(teacher.module) == before
    assert not teacher.module.training
    assert all(weight.grad is None and not weight.requires_grad for weight in teacher.module.parameters())
    assert count_hooks(teacher.module) == 0


@pytest.mark.parametrize(("stale", "a_step"), [(False, 2), (True, 1)])
def test_teacher_passes_are_counted(stale: bool, a_step: int) -> None:
    """One dry pass, `a_step` a step and for the one candidate, two for the finished images; never one a new minimum."""
    teacher = small()
    run(teacher, steps=8, score_every=4, stale_features=stale)
    first_features = int(stale)
    assert teacher.passes == 1 + 8 * a_step + first_features + 1 * a_step + 2


class Readings(TorchDispatchMode):
    """Counts how often a number is read from the device."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("form", ["pyramid", "generator", "pixels"])
def test_no_number_is_read_from_the_device_in_a_step(form: str) -> None:
    counts = []
    for steps in (4, 12):
        with Readings() as readings:
            run(small(), form=form, steps=steps, score_every=100)
        counts.append(readings.count)
    assert counts[0] == counts[1]


def test_the_kept_losses_are_those_of_the_saved_images() -> None:
    teacher = small()
    images = run(teacher, steps=12)
    settings = InversionSettings(**FAST)
    saved = scale_of(teacher).from_pixels(pixels_of(images)).unsqueeze(1)
    with Probe(teacher, examine(teacher)) as probe, torch.no_grad():
        found = probe(saved, statistics=True)
        losses = inversion_losses(saved, torch.tensor([LABELS]).T, found, probe.running, settings)
    assert images[0].losses == pytest.approx({name: float(value) for name, value in losses.items()}, rel=1e-5)


def test_the_saved_image_is_the_one_that_was_optimised() -> None:
    teacher = small()
    images = run(teacher, steps=20)
    assert [image.agrees for image in images] == [image.agrees_saved for image in images]
    with torch.no_grad():
        again = teacher.logits(scale_of(teacher).from_pixels(pixels_of(images)))
    torch.testing.assert_close(logits_of(images), again)
    assert [image.agrees_saved for image in images] == (again.argmax(1) == torch.tensor(LABELS)).tolist()


def test_the_kept_candidate_is_the_best_one() -> None:
    """A run that scores each of the last steps keeps the best of the runs that score one of them and the last."""

    def kept(score_every: int) -> tuple[float, int | None]:  # rates so high that the loss goes up and down
        image = run(small(), steps=16, score_every=score_every, generator_rate=0.1, alpha_rate=0.5)[0]
        assert image.losses is not None
        return image.losses["total"], image.step

    some = [kept(score_every) for score_every in (12, 13, 14, 15)]
    assert kept(1) == min(some)
    assert {step for _, step in some} <= {12, 13, 14, 15, 16}


def test_all_that_is_kept_of_a_candidate_is_of_one_step() -> None:
    """A run whose best step is not its last gives what a run up to that step gives."""
    still = {"alpha_rate": 0.5, "jitter": 0, "flip": False}
    tried = (
        {"generator_rate": rate, **still} for rate in (0.1, 0.2, 0.4, 0.8)
    )  # which step is best is left to rounding
    runs = ((rates, run(small(), steps=16, score_every=1, **rates)[0]) for rates in tried)
    rates, image = next((rates, image) for rates, image in runs if image.step is not None and image.step < 16)
    again = run(small(), steps=image.step, score_every=100, **rates)[0]
    assert (image.alpha, image.losses) == (again.alpha, again.losses)
    assert np.array_equal(image.pixels, again.pixels)


class Decided(TinyTeacher):
    """Sees class 9 in every image, whatever is done."""

    def logits(self, images: Tensor) -> Tensor:
        return super().logits(images) + 1e3 * nn.functional.one_hot(torch.tensor(9), 10)


@pytest.mark.parametrize(("label", "stops"), [(9, True), (3, False)])
def test_a_batch_whose_loss_is_flat_stops_where_the_teacher_agrees(label: int, stops: bool) -> None:
    image = run(Decided(small().module, size=(8, 8)), [label] * 6, steps=12, stop_improvement=0.9)[0]
    assert image.agrees_saved is stops
    assert (image.provenance["steps"] < 12) is stops


def test_labels_that_the_teacher_does_not_have_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"labels \[-1, 10\] .* 10 classes, 0 to 9"):
        run(small(), labels=[0, 10, -1, 3, 4, 5])


def test_each_label_needs_a_seed() -> None:
    with pytest.raises(ValueError, match="6 labels and 2 seeds"):
        run(small(), seeds=[1, 2])


def test_a_teacher_without_batchnorm_is_refused_before_anything_is_drawn() -> None:
    with pytest.raises(ModelError, match="0 BatchNorm"):
        invert(TinyTeacher(nn.Sequential(nn.Flatten(), nn.Linear(768, 10))), [0], [1], InversionSettings())


def test_nothing_asked_nothing_made() -> None:
    assert run(small(), [], []) == []
