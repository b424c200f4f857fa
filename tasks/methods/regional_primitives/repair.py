"""Mends a region by turning its components up or down, and takes the result only where measurement allows.

    f' = f + sum over T of (a_T - 1) Df(T),   a_T in [0, 1.5]
    minimise  d(g(f')) + outside_weight * mean squared change outside the region

d is a defect score, lower is better. The change outside is bounded, not only discouraged: the found step is shortened
to the longest that leaves at least 40 dB of PSNR outside. The result is accepted where the score still falls by 5 %;
otherwise the rival (masked inpainting) is tried under the same rule, and where that fails too the image stays. Gains,
weights and thresholds are our own choice. A better score may only mean a fooled detector: look with another one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf, log, log10
from typing import Literal

import torch
from torch import Tensor

from schemas.errors import ExplanationError
from tasks.methods.regional_primitives.demands import Subject

Defect = Callable[[Tensor], Tensor]  # images [B, 3, H, W] to scores [B], lower is better; differentiable
Route = Literal["primitives", "inpaint", "none"]

RANGE = 2.0  # of pixel values, -1 to 1
HIGHEST_GAIN = 1.5


@dataclass(frozen=True)
class RepairSettings:
    """`improvement`: the part by which the score must fall; `psnr_outside`: dB that must be left outside the region."""

    iterations: int = 60
    step: float = 0.1
    outside_weight: float = 10.0
    improvement: float = 0.05
    psnr_outside: float = 40.0
    halvings: int = 12


@dataclass(frozen=True)
class Attempt:
    """What one route came to: its image, score, PSNR outside the region, and whether it passes the thresholds."""

    route: Route
    image: Tensor
    score: float
    psnr_outside: float
    accepted: bool
    gains: tuple[float, ...] = ()


@dataclass(frozen=True)
class Repair:
    """The attempt that was taken, the score before, and every attempt in the order made."""

    taken: Attempt
    before: float
    attempts: tuple[Attempt, ...]


def repair_region(
    subject: Subject,
    changes: Tensor,
    region: Tensor,
    defect: Defect,
    settings: RepairSettings,
    rivals: Iterable[Tensor] = (),
) -> Repair:
    """Try the components `changes` [K, C, h, w] of the region [H, W], then the `rivals`' images [1, 3, H, W] in order.

    Rivals are asked for only when they are needed. Errors: ExplanationError where the score is no number.
    """
    with torch.no_grad():
        image = subject.tail(subject.feature)
        before = float(defect(image))
    if before != before:
        raise ExplanationError("the defect score of the image is no number; mend the score first")
    attempts: list[Attempt] = []
    if len(changes):
        attempts.append(turn_components(subject, changes, image, region, defect, before, settings))
    for rival in rivals if not any(each.accepted for each in attempts) else ():
        attempts.append(judge("inpaint", rival, image, region, defect, before, settings))
        if attempts[-1].accepted:
            break
    unchanged = Attempt("none", image, before, inf, accepted=True)
    taken = next((each for each in attempts if each.accepted), unchanged)
    return Repair(taken, before, tuple(attempts))


def turn_components(
    subject: Subject,
    changes: Tensor,
    image: Tensor,
    region: Tensor,
    defect: Defect,
    before: float,
    settings: RepairSettings,
) -> Attempt:
    """The best gains that keep the bound outside the region."""
    gains = find_gains(subject, changes, image, region, defect, settings)
    share = longest_share(subject, changes, gains, image, region, settings)
    kept = 1 + share * (gains - 1)
    with torch.no_grad():
        mended = subject.tail(apply_gains(subject, changes, kept))
    return judge("primitives", mended, image, region, defect, before, settings, tuple(kept.tolist()))


def apply_gains(subject: Subject, changes: Tensor, gains: Tensor) -> Tensor:
    """f' [1, C, h, w] for gains [K]."""
    return subject.feature + torch.einsum("k,kchw->chw", gains - 1, changes)[None]


def find_gains(
    subject: Subject, changes: Tensor, image: Tensor, region: Tensor, defect: Defect, settings: RepairSettings
) -> Tensor:
    """Gains [K] by Adam from 1; a = 1.5 sigmoid(p) keeps them in their range. The best ones met are returned."""
    free = torch.full((len(changes),), log(2.0), dtype=image.dtype, device=image.device, requires_grad=True)
    optimiser = torch.optim.Adam([free], lr=settings.step)
    best, lowest = torch.ones_like(free.detach()), inf
    for _ in range(settings.iterations):
        gains = HIGHEST_GAIN * free.sigmoid()
        drawn = subject.tail(apply_gains(subject, changes, gains))
        loss = defect(drawn).sum() + settings.outside_weight * outside_error(drawn, image, region)
        if (value := float(loss.detach())) < lowest:
            best, lowest = gains.detach().clone(), value
        (free.grad,) = torch.autograd.grad(loss, free)
        optimiser.step()
    return best


@torch.no_grad()
def longest_share(
    subject: Subject, changes: Tensor, gains: Tensor, image: Tensor, region: Tensor, settings: RepairSettings
) -> float:
    """How far the gains may go from 1 and leave the wanted PSNR outside: 1, or found by halving."""

    def fits(share: float) -> bool:
        drawn = subject.tail(apply_gains(subject, changes, 1 + share * (gains - 1)))
        return measure_psnr(drawn, image, region) >= settings.psnr_outside

    if fits(1.0):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(settings.halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@torch.no_grad()
def judge(
    route: Route,
    mended: Tensor,
    image: Tensor,
    region: Tensor,
    defect: Defect,
    before: float,
    settings: RepairSettings,
    gains: Sequence[float] = (),
) -> Attempt:
    """Measure an image against the thresholds; a score that is no number is refused."""
    score, psnr = float(defect(mended)), measure_psnr(mended, image, region)
    better = score <= before - settings.improvement * abs(before)
    return Attempt(route, mended, score, psnr, better and psnr >= settings.psnr_outside, tuple(gains))


def outside_error(images: Tensor, image: Tensor, region: Tensor) -> Tensor:
    """Mean squared change outside the region; 0 where the region is the whole image."""
    outside = ~region.to(image.device)
    if not bool(outside.any()):
        return images.new_zeros(())
    return (images - image)[..., outside].square().mean()


def measure_psnr(images: Tensor, image: Tensor, region: Tensor) -> float:
    """PSNR in dB outside the region; infinite where nothing changed."""
    error = float(outside_error(images, image, region))
    return inf if error == 0 else 10 * log10(RANGE**2 / error)
