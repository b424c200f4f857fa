"""Batches of an inversion: side by side, one after another, and failing, they are strangers to each other."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tailforge.tasks.methods.natural_inversion.invert import split_batches
from tests.support.tiny_inversions import LABELS, PLAIN, logits_of, pixels_of, run, small
from tests.support.tiny_teachers import TinyTeacher


@pytest.fixture
def double_precision() -> Iterator[None]:
    """In single precision Adam makes steps out of rounding errors, and two runs part after some tens of steps."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("form", ["pyramid", "generator", "pixels"])
def test_batches_side_by_side_equal_each_alone(form: str) -> None:
    labels, seeds = [label % 10 for label in range(18)], list(range(18))
    together = run(small(), labels, seeds, **PLAIN | {"form": form, "groups": 3})
    alone = run(small(), labels, seeds, **PLAIN | {"form": form, "groups": 1})
    for one, other in zip(together, alone, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=1e-6)
        assert (one.alpha or ()) == pytest.approx(other.alpha or (), rel=1e-6)
    assert int(np.abs(pixels_of(together).astype(int) - pixels_of(alone)).max()) <= 1


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("stale", [False, True])
def test_refilled_slots_change_no_batch(stale: bool) -> None:
    """Five batches in two slots, stopped at different steps, come out in order and as each alone."""
    labels, seeds = [label % 3 for label in range(10)], list(range(10))
    changes = PLAIN | {"batch_size": 2, "steps": 24, "stop_improvement": 0.1, "stale_features": stale,
                       "generator_rate": 0.002, "statistics_weight": 0.1}  # fmt: skip
    together = run(small(classes=3), labels, seeds, **changes, groups=2)
    alone = run(small(classes=3), labels, seeds, **changes, groups=1)
    assert [image.label for image in together] == labels
    steps = [image.provenance["steps"] for image in together]
    assert steps == [image.provenance["steps"] for image in alone]
    assert len(set(steps)) > 1
    for one, other in zip(together, alone, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=1e-3)


def test_a_warm_start_takes_over_from_the_batch_before_what_belongs_to_no_image() -> None:
    """At rates so low that nothing is learnt, the later batch has the first one's pyramid, so other images than after a
    cold start, and channel scales of its own."""
    labels, seeds = [*LABELS, *LABELS], list(range(12))
    still = {"generator_rate": 1e-9, "pyramid_rate": 1e-9, "alpha_rate": 1e-9}
    cold, warm = (run(small(), labels, seeds, warm_start=warm, **still) for warm in (False, True))
    assert np.array_equal(pixels_of(cold[:6]), pixels_of(warm[:6]))
    assert (pixels_of(cold[6:]) != pixels_of(warm[6:])).any(axis=(1, 2, 3)).all()
    for one, other in zip(cold, warm, strict=True):
        assert one.alpha == pytest.approx(other.alpha)


class Recovering(TinyTeacher):
    """Gives no numbers while the first batch is trained against it."""

    def logits(self, images: Tensor) -> Tensor:
        logits = super().logits(images)
        return logits * float("nan") if 1 < self.passes < 8 else logits


def test_a_warm_start_takes_nothing_over_that_is_not_finite() -> None:
    labels, seeds = [*LABELS, *LABELS], list(range(12))
    images = run(Recovering(small().module, size=(8, 8)), labels, seeds, warm_start=True)
    assert [image.error is None for image in images] == [False] * 6 + [True] * 6


class Poisoned(nn.Module):
    """Gives no numbers for the images of the second of two batches."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        if len(logits) != 12:
            return logits
        return logits * torch.tensor([1.0, float("nan")]).repeat(6).unsqueeze(1)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("form", ["pyramid", "generator", "pixels"])
def test_a_batch_that_is_not_finite_fails_alone(form: str) -> None:
    labels, seeds = [*LABELS, *LABELS], list(range(12))
    teacher = small()
    healthy = run(teacher, labels[:6], seeds[:6], **PLAIN | {"form": form})
    images = run(
        TinyTeacher(Poisoned(teacher.module), size=teacher.size), labels, seeds, **PLAIN | {"form": form, "groups": 2}
    )
    assert [image.error is None for image in images] == [True] * 6 + [False] * 6
    assert "no finite number" in str(images[6].error)
    assert images[6].pixels is images[6].logits is images[6].losses is None
    assert images[6].provenance["seed"] == 6
    assert images[0].losses == pytest.approx(healthy[0].losses, rel=1e-6)


class Breaking(TinyTeacher):
    """Gives no numbers any more once it was trained against for a while."""

    def logits(self, images: Tensor) -> Tensor:
        logits = super().logits(images)
        return logits * float("nan") if torch.is_grad_enabled() and self.passes > 12 else logits


@pytest.mark.parametrize("stop_improvement", [None, 1e-9])
def test_a_batch_that_breaks_late_keeps_its_candidate(stop_improvement: float | None) -> None:
    teacher = Breaking(small().module, size=(8, 8))
    images = run(teacher, steps=20, score_every=1, jitter=0, stop_improvement=stop_improvement)
    if stop_improvement is None:  # candidates are scored in the last quarter alone
        assert all(image.error is not None for image in images)
    else:
        assert all(image.error is None and image.step is not None and image.step < 12 for image in images)
        assert bool(logits_of(images).isfinite().all())


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (6, [6]), (7, [4, 3]), (13, [5, 4, 4]), (18, [6, 6, 6])])
def test_batches_are_of_nearly_equal_size(count: int, sizes: list[int]) -> None:
    batches = split_batches(list(range(count)), list(range(count)), 6)
    assert [len(batch.labels) for batch in batches] == sizes
    assert [label for batch in batches for label in batch.labels] == list(range(count))
    assert len({batch.seed for batch in batches}) == len(sizes)
