"""Repair a region by turning its components up or down, and accept the result only if measurements allow it.

    f' = f + sum over T of (a_T - 1) Df(T),   a_T in [0, 1.5]
    minimise  d(g(f')) + outside_weight * mean squared change outside the region

d is a defect score; lower is better. The change outside is bounded, not only discouraged: the found step is shortened
to the longest step that leaves at least 40 dB of PSNR outside. A result is accepted if the score still falls by 5 %.

A better score may only mean a fooled detector: less content lowers an artifact score as well as fewer artifacts. So the
caller may give a second opinion, an `anchor`: an image believed to be nearer to the truth. An accepted region must come
nearer to it. Rivals (the anchor itself, masked inpainting) are judged by the same rule. The accepted attempt with the
lowest score is taken; if none is accepted, the image stays. Gains, weights, thresholds and rules are our own choice.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf, log, log10
from typing import Literal

import torch
from torch import Tensor

from tailforge.schemas.errors import ExplanationError
from tailforge.tasks.methods.regional_primitives.demands import Subject

Defect = Callable[[Tensor], Tensor]  # images [B, 3, H, W] to scores [B], lower is better; differentiable
Route = Literal["primitives", "anchor", "inpaint", "none"]

RANGE = 2.0  # of pixel values, -1 to 1
HIGHEST_GAIN = 1.5


@dataclass(frozen=True)
class RepairSettings:
    """`improvement`: the share by which the score must fall; `psnr_outside`: least dB outside the region."""

    iterations: int = 60
    step: float = 0.1
    outside_weight: float = 10.0
    improvement: float = 0.05
    psnr_outside: float = 40.0
    halvings: int = 12


@dataclass(frozen=True)
class Attempt:
    """The outcome of one route: its image, score, PSNR outside the region, and whether it passes the thresholds."""

    route: Route
    image: Tensor
    score: float
    psnr_outside: float
    accepted: bool
    gains: tuple[float, ...] = ()


@dataclass(frozen=True)
class Repair:
    """The taken attempt, the score before, and every attempt in the order made."""

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
    anchor: Tensor | None = None,
) -> Repair:
    """Try the components `changes` [K, C, h, w] of the region [H, W], the anchor and the `rivals`, images [1, 3, H, W].

    Errors: ExplanationError if the score is not a number.
    """
    # The score to beat is that of the unchanged image.
    with torch.no_grad():
        image = subject.tail(subject.feature)
        before = float(defect(image))
    if before != before:
        raise ExplanationError("the defect score of the image is no number; mend the score first")

    # Every route makes one attempt, judged by the same rule.
    judge = Judge(image, region, defect, before, settings, anchor)
    attempts: list[Attempt] = []
    if len(changes):
        attempts.append(turn_components(subject, changes, judge))
    if anchor is not None:
        attempts.append(judge("anchor", torch.where(region.to(image.device), anchor, image)))
    attempts += [judge("inpaint", rival) for rival in rivals]

    # The lowest accepted score wins; without any, the image stays unchanged.
    unchanged = Attempt("none", image, before, inf, accepted=True)
    accepted = [each for each in attempts if each.accepted]
    return Repair(min(accepted, key=lambda each: each.score, default=unchanged), before, tuple(attempts))


@dataclass(frozen=True)
class Judge:
    """The rule that accepts or refuses every attempt; it refuses a score that is not a number."""

    image: Tensor
    region: Tensor
    defect: Defect
    before: float
    settings: RepairSettings
    anchor: Tensor | None

    @torch.no_grad()
    def __call__(self, route: Route, mended: Tensor, gains: Sequence[float] = ()) -> Attempt:
        # Better score, little change outside, and nearer to the anchor: all three are required.
        # Measure on the finished image, not on the optimiser's estimate.
        score, psnr = float(self.defect(mended)), measure_psnr(mended, self.image, self.region)
        better = score <= self.before - self.settings.improvement * abs(self.before)
        accepted = better and psnr >= self.settings.psnr_outside and self._comes_nearer(mended)
        return Attempt(route, mended, score, psnr, accepted, tuple(gains))

    def _comes_nearer(self, mended: Tensor) -> bool:
        """Return whether the region is nearer to the anchor than before."""
        if self.anchor is None:
            return True
        # Compare inside the region alone; outside, the image should stay as it was.
        inside = self.region.to(self.image.device)
        now, then = ((each - self.anchor)[..., inside].square().mean() for each in (mended, self.image))
        return bool(now < then)


def turn_components(subject: Subject, changes: Tensor, judge: Judge) -> Attempt:
    """Attempt the best gains of `changes` [K, C, h, w] that keep the bound outside the region."""
    # Free search first, then shorten the step until the bound outside holds.
    gains = find_gains(subject, changes, judge.image, judge.region, judge.defect, judge.settings)
    share = longest_share(subject, changes, gains, judge.image, judge.region, judge.settings)
    # All gains are shortened alike, so their direction stays.
    kept = 1 + share * (gains - 1)
    with torch.no_grad():
        mended = subject.tail(apply_gains(subject, changes, kept))
    return judge("primitives", mended, tuple(kept.tolist()))


def apply_gains(subject: Subject, changes: Tensor, gains: Tensor) -> Tensor:
    """Return f' [1, C, h, w] for gains [K] and changes [K, C, h, w]."""
    return subject.feature + torch.einsum("k,kchw->chw", gains - 1, changes)[None]


def find_gains(
    subject: Subject, changes: Tensor, image: Tensor, region: Tensor, defect: Defect, settings: RepairSettings
) -> Tensor:
    """Search gains [K] by Adam from 1 and return the best ones met; a = 1.5 sigmoid(p) keeps them in their range."""
    # sigmoid(log 2) = 2 / 3, so every gain starts at 1.
    free = torch.full((len(changes),), log(2.0), dtype=image.dtype, device=image.device, requires_grad=True)
    optimiser = torch.optim.Adam([free], lr=settings.step)
    best, lowest = torch.ones_like(free.detach()), inf
    for _ in range(settings.iterations):
        # Defect inside plus weighted change outside.
        gains = HIGHEST_GAIN * free.sigmoid()
        drawn = subject.tail(apply_gains(subject, changes, gains))
        loss = defect(drawn).sum() + settings.outside_weight * outside_error(drawn, image, region)
        if (value := float(loss.detach())) < lowest:
            best, lowest = gains.detach().clone(), value
        # Keep the best gains met before the step moves them.
        (free.grad,) = torch.autograd.grad(loss, free)
        optimiser.step()
    return best


@torch.no_grad()
def longest_share(
    subject: Subject, changes: Tensor, gains: Tensor, image: Tensor, region: Tensor, settings: RepairSettings
) -> float:
    """Return how far gains [K] may go from 1 within the PSNR bound outside: 1, or a share found by halving."""

    def fits(share: float) -> bool:
        drawn = subject.tail(apply_gains(subject, changes, 1 + share * (gains - 1)))
        return measure_psnr(drawn, image, region) >= settings.psnr_outside

    if fits(1.0):
        return 1.0
    # Bisect: `low` always keeps the bound, `high` never does.
    low, high = 0.0, 1.0
    for _ in range(settings.halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def outside_error(images: Tensor, image: Tensor, region: Tensor) -> Tensor:
    """Return the mean squared change of images [B, 3, H, W] outside the region; 0 if it is the whole image."""
    # A region of the whole image leaves nothing outside to protect.
    outside = ~region.to(image.device)
    if not bool(outside.any()):
        return images.new_zeros(())
    return (images - image)[..., outside].square().mean()


def measure_psnr(images: Tensor, image: Tensor, region: Tensor) -> float:
    """Return the PSNR in dB of images [B, 3, H, W] outside the region; infinite if nothing changed."""
    error = float(outside_error(images, image, region))
    return inf if error == 0 else 10 * log10(RANGE**2 / error)
