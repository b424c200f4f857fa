"""The feature that draws some patches and owes the others nothing: u(S), for many sets S at once.

The paper (arXiv 2410.04421) leaves open how u(S) is found; this is our own choice. With the metric s (the spread of
each channel) we look for the feature nearest to the baseline f0 that still draws the pixels of x on S:

    min |(h - f0) / s|   such that   P_i g(h) = P_i x  for i in S                       (demand)
    res(S) = |P_S (g(h) - x)| / |P_S (x - f0's image)|                                  (residual)

1. Blend: h = f on the cells that lie under S, f0 elsewhere. It is near the answer, so that g is linearised where it is
   used.
2. Start: the nearest feature under g linearised at the blend, h = f0 + s^2 J^T (J s^2 J^T + damping)^-1 d. For an
   affine g this is the answer.
3. Corrections: the smallest change that mends what curvature left, g linearised anew each time. A set leaves the batch
   when its residual is below the tolerance.

Both linear problems are solved by conjugate gradients from zero, so that the answer has no part that draws nothing.
Patches count alike: the pixels of patch i are weighted by 1 / |P_i (x - x0)|.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailforge.schemas.errors import ExplanationError
from tailforge.tasks.methods.regional_primitives.linearise import Linearised, Tail
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid, shrink_mask, square_change

Observe = Callable[[int, int], None]  # sets done, of how many


@dataclass(frozen=True)
class Subject:
    """What is explained: the feature f [1, C, h, w], its baseline f0 of the same shape, and the metric s [1, C, 1, 1].

    s: standard deviation of each channel over many samples, above 0.
    """

    tail: Tail
    feature: Tensor
    baseline: Tensor
    spread: Tensor

    def __post_init__(self) -> None:
        if self.feature.shape != self.baseline.shape or self.feature.dim() != 4 or len(self.feature) != 1:
            raise ExplanationError(
                f"feature {tuple(self.feature.shape)} and baseline {tuple(self.baseline.shape)} must both be "
                "[1, channels, rows, columns]"
            )
        if not bool((self.spread > 0).all()):
            raise ExplanationError("a channel never changes, so its spread is 0; take the spread over more samples")


@dataclass(frozen=True)
class SolveSettings:
    """How hard u(S) is looked for. `batch` sets are solved together: it bounds the memory of the solves."""

    batch: int = 16
    tolerance: float = 5e-3  # a set is done when its residual is below
    damping: float = 1e-6
    start_iterations: int = 30
    corrections: int = 12
    correction_iterations: int = 40


@dataclass(frozen=True)
class Drawn:
    """The image that is to be drawn: x and x0 [1, 3, H, W], and |P_i (x - x0)|^2 of every patch, [P]."""

    image: Tensor
    origin: Tensor
    energies: Tensor


@torch.no_grad()
def draw_subject(subject: Subject, grid: PatchGrid) -> Drawn:
    """x = g(f), x0 = g(f0). Errors: ExplanationError where the grid is made for images of another size."""
    image, origin = subject.tail(subject.feature), subject.tail(subject.baseline)
    if tuple(image.shape[-2:]) != (grid.height, grid.width):
        raise ExplanationError(
            f"the grid is for {grid.height} x {grid.width} pixels, but the image has {image.shape[-2]} x "
            f"{image.shape[-1]}; make the grid for the image"
        )
    return Drawn(image, origin, grid.pool(square_change(image, origin))[0])


def solve_demands(
    subject: Subject,
    grid: PatchGrid,
    drawn: Drawn,
    demanded: NDArray[np.bool_],
    settings: SolveSettings,
    observe: Observe = lambda done, total: None,
) -> tuple[Tensor, NDArray[np.float64]]:
    """u(S) [K, C, h, w] and res(S) [K] for the sets of patches `demanded` [K, P]; that of no patch is f0 itself."""
    found = subject.baseline.expand(len(demanded), -1, -1, -1).clone()
    residuals = np.zeros(len(demanded))
    asked = np.flatnonzero(demanded.any(1))
    for start in range(0, len(asked), settings.batch):
        rows = asked[start : start + settings.batch]
        sets = torch.from_numpy(demanded[rows]).to(subject.feature.device)
        found[rows], residuals[rows] = solve_batch(_Problem(subject, grid, drawn, sets), settings)
        observe(min(start + settings.batch, len(asked)), len(asked))
    return found, residuals


class _Problem:
    """The demands of one batch of sets [B, P], in coordinates q = (h - f0) / metric in which f has the length 1."""

    def __init__(self, subject: Subject, grid: PatchGrid, drawn: Drawn, sets: Tensor) -> None:
        self.subject, self.drawn = subject, drawn
        self.metric = subject.spread * ((subject.feature - subject.baseline) / subject.spread).norm()
        wanted = sets.to(drawn.energies.dtype)
        self.mask = grid.spread(wanted)
        weights = wanted / drawn.energies.clamp_min(torch.finfo(wanted.dtype).tiny)
        self.weight = grid.spread(weights).sqrt()[:, None]
        self.demand = wanted @ drawn.energies  # |P_S (x - x0)|^2

    def blend(self) -> Tensor:
        feature, baseline = self.subject.feature, self.subject.baseline
        return torch.lerp(baseline, feature, shrink_mask(self.mask, (feature.shape[2], feature.shape[3])))

    @torch.no_grad()
    def residuals(self, features: Tensor, rows: Tensor) -> Tensor:
        missed = square_change(self.subject.tail(features), self.drawn.image) * self.mask[rows]
        return (missed.flatten(1).sum(1) / self.demand[rows]).sqrt()


def solve_batch(problem: _Problem, settings: SolveSettings) -> tuple[Tensor, NDArray[np.float64]]:
    """u(S) and res(S) of one batch."""
    baseline, blend = problem.subject.baseline, problem.blend()
    every = torch.arange(len(blend), device=blend.device)
    nearest = change_least(problem, every, blend, baseline, settings.start_iterations, 0.02, settings.damping)
    found = baseline + nearest
    residuals = problem.residuals(found, every)
    for _ in range(settings.corrections):
        rows = torch.nonzero(~(residuals <= settings.tolerance))[:, 0]
        if len(rows) == 0:
            break
        points = found[rows]
        mended = points + change_least(
            problem, rows, points, points, settings.correction_iterations, 0.2, settings.damping
        )
        better = problem.residuals(mended, rows)
        wins = better < residuals[rows]  # a correction that overshoots is not taken
        if not bool(wins.any()):
            break
        found[rows[wins]], residuals[rows[wins]] = mended[wins], better[wins]
    return found, residuals.double().cpu().numpy()


def change_least(
    problem: _Problem, rows: Tensor, point: Tensor, origin: Tensor, iterations: int, tolerance: float, damping: float
) -> Tensor:
    """The smallest change of `origin` [*, C, h, w] that meets the demands of `rows` where g is linear about `point`.

    Least squares by conjugate gradients (CGLS, Hestenes and Stiefel 1952): min |A z - b|^2 + damping |z|^2 from z = 0,
    A = weight J metric, the change being metric z. Where curvature leaves b partly out of reach, as behind a denoiser,
    it still ends at the best that can be had. A row stops when its remainder is below `tolerance` of its b, whatever
    else is in the batch.
    """
    metric, weight = problem.metric, problem.weight[rows]
    about = Linearised(problem.subject.tail, point)
    left = weight * (problem.drawn.image - about.image + about.push((point - origin).expand_as(point)))
    change = torch.zeros_like(point)
    first = _dot(left, left)
    pulled = metric * about.pull(weight * left)
    direction, size = pulled, _dot(pulled, pulled)
    tiny = torch.finfo(size.dtype).tiny
    for _ in range(iterations):
        open_rows = _dot(left, left) > tolerance**2 * first
        if not bool(open_rows.any()):
            break
        bent = weight * about.push(metric * direction)
        length = open_rows * size / (_dot(bent, bent) + damping * _dot(direction, direction)).clamp_min(tiny)
        change = change + length * direction
        left = left - length * bent
        pulled = metric * about.pull(weight * left) - damping * change
        before, size = size, _dot(pulled, pulled)
        direction = pulled + size / before.clamp_min(tiny) * direction
    least: Tensor = metric * change
    return least


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Product of each row with itself or another, [B, 1, 1, 1]."""
    products: Tensor = (a * b).flatten(1).sum(1)
    return products[:, None, None, None]


def name_players(names: Sequence[int], players: Sequence[int], grid: PatchGrid) -> NDArray[np.bool_]:
    """What each set demands, [K, P]: the players that its name does not drop."""
    demanded = np.zeros((len(names), grid.count), dtype=bool)
    for row, name in enumerate(names):
        demanded[row, [patch for bit, patch in enumerate(players) if not name >> bit & 1]] = True
    return demanded
