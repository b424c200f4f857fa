"""Find u(S), the feature that draws the patches S and leaves the others free, for many sets S at once.

The paper (arXiv 2410.04421) leaves open how to find u(S); this is our own choice. With the metric s (the spread of
each channel), u(S) is the feature nearest to the baseline f0 that still draws the pixels of x on S:

    min |(h - f0) / s|   such that   P_i g(h) = P_i x  for i in S                       (demand)
    res(S) = |P_S (g(h) - x)| / |P_S (x - f0's image)|                                  (residual)

1. Blend: h = f on the cells under S, f0 elsewhere. The blend is near the answer, so g is linearised near the answer.
2. Start: the nearest feature under g linearised at the blend, h = f0 + s^2 J^T (J s^2 J^T + damping)^-1 d. For an
   affine g this is the answer.
3. Corrections: the smallest change that removes the error left by curvature. g is linearised anew each time. A set
   leaves the batch when its residual is below the tolerance.

Conjugate gradients solve both linear problems from zero, so the answer has no part that draws nothing. Patches count
alike: the pixels of patch i have the weight 1 / |P_i (x - x0)|.
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
    """The feature to explain, f [1, C, h, w], its baseline f0 of the same shape, and the metric s [1, C, 1, 1].

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
    """Effort of the search for u(S). `batch` sets are solved together: it bounds the memory of the solves."""

    batch: int = 16
    tolerance: float = 5e-3  # a set is done below this residual
    damping: float = 1e-6
    start_iterations: int = 30
    corrections: int = 12
    correction_iterations: int = 40


@dataclass(frozen=True)
class Drawn:
    """The images x and x0 [1, 3, H, W] of feature and baseline, and |P_i (x - x0)|^2 of every patch, [P]."""

    image: Tensor
    origin: Tensor
    energies: Tensor


@torch.no_grad()
def draw_subject(subject: Subject, grid: PatchGrid) -> Drawn:
    """Draw x = g(f) and x0 = g(f0). Errors: ExplanationError if the grid has another size than the images."""
    # Both images are drawn once and shared by all sets.
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
    """Return u(S) [K, C, h, w] and res(S) [K] for the sets of patches `demanded` [K, P]; the empty set gives f0."""
    # The empty set demands nothing: it keeps the baseline.
    found = subject.baseline.expand(len(demanded), -1, -1, -1).clone()
    residuals = np.zeros(len(demanded))
    asked = np.flatnonzero(demanded.any(1))

    # Solve the other sets batch by batch, which bounds the memory.
    for start in range(0, len(asked), settings.batch):
        rows = asked[start : start + settings.batch]
        sets = torch.from_numpy(demanded[rows]).to(subject.feature.device)
        found[rows], residuals[rows] = solve_batch(_Problem(subject, grid, drawn, sets), settings)
        observe(min(start + settings.batch, len(asked)), len(asked))
    return found, residuals


class _Problem:
    """The demands of one batch of sets [B, P], in coordinates q = (h - f0) / metric that give f the length 1."""

    def __init__(self, subject: Subject, grid: PatchGrid, drawn: Drawn, sets: Tensor) -> None:
        self.subject, self.drawn = subject, drawn
        self.metric = subject.spread * ((subject.feature - subject.baseline) / subject.spread).norm()

        # Each patch counts alike: its pixels have the weight 1 / |P_i (x - x0)|.
        wanted = sets.to(drawn.energies.dtype)
        self.mask = grid.spread(wanted)
        weights = wanted / drawn.energies.clamp_min(torch.finfo(wanted.dtype).tiny)
        self.weight = grid.spread(weights).sqrt()[:, None]
        self.demand = wanted @ drawn.energies  # |P_S (x - x0)|^2

    def blend(self) -> Tensor:
        # Step 1: f on the cells under the demanded pixels, f0 elsewhere.
        feature, baseline = self.subject.feature, self.subject.baseline
        return torch.lerp(baseline, feature, shrink_mask(self.mask, (feature.shape[2], feature.shape[3])))

    @torch.no_grad()
    def residuals(self, features: Tensor, rows: Tensor) -> Tensor:
        # res(S): missed change over demanded change, on the pixels of S.
        missed = square_change(self.subject.tail(features), self.drawn.image) * self.mask[rows]
        return (missed.flatten(1).sum(1) / self.demand[rows]).sqrt()


def solve_batch(problem: _Problem, settings: SolveSettings) -> tuple[Tensor, NDArray[np.float64]]:
    """Return u(S) [B, C, h, w] and res(S) [B] of one batch."""
    # Steps 1 and 2: linearise at the blend and go to the nearest feature that meets the demand.
    baseline, blend = problem.subject.baseline, problem.blend()
    every = torch.arange(len(blend), device=blend.device)
    nearest = change_least(problem, every, blend, baseline, settings.start_iterations, 0.02, settings.damping)
    found = baseline + nearest
    residuals = problem.residuals(found, every)

    # Step 3: correct the rows that are not done. A NaN residual counts as not done.
    for _ in range(settings.corrections):
        rows = torch.nonzero(~(residuals <= settings.tolerance))[:, 0]
        if len(rows) == 0:
            break
        points = found[rows]
        mended = points + change_least(
            problem, rows, points, points, settings.correction_iterations, 0.2, settings.damping
        )
        # Keep a correction only for rows that it improves.
        better = problem.residuals(mended, rows)
        wins = better < residuals[rows]  # a correction that overshoots is not taken
        if not bool(wins.any()):
            break
        found[rows[wins]], residuals[rows[wins]] = mended[wins], better[wins]
    return found, residuals.double().cpu().numpy()


def change_least(
    problem: _Problem, rows: Tensor, point: Tensor, origin: Tensor, iterations: int, tolerance: float, damping: float
) -> Tensor:
    """Return the smallest change of `origin` [*, C, h, w] that meets the demands of `rows`, g linear about `point`.

    Least squares by conjugate gradients (CGLS, Hestenes and Stiefel 1952): min |A z - b|^2 + damping |z|^2 from z = 0,
    A = weight J metric; the change is metric z. If curvature leaves b partly out of reach, as behind a denoiser, it
    still ends at the best reachable point. A row stops when its remainder is below `tolerance` of its b, independent of
    the batch.
    """
    # b: the weighted pixels still missing in g's linear model about `point`.
    metric, weight = problem.metric, problem.weight[rows]
    about = Linearised(problem.subject.tail, point)
    left = weight * (problem.drawn.image - about.image + about.push((point - origin).expand_as(point)))

    # z = 0; the first direction is the gradient A^T b.
    change = torch.zeros_like(point)
    first = _dot(left, left)
    pulled = metric * about.pull(weight * left)
    direction, size = pulled, _dot(pulled, pulled)
    tiny = torch.finfo(size.dtype).tiny

    # CGLS: step along the direction, update the remainder, choose the next conjugate direction.
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

    # Back from z to the feature.
    least: Tensor = metric * change
    return least


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the product of each row of a with the same row of b, [B, 1, 1, 1]."""
    products: Tensor = (a * b).flatten(1).sum(1)
    return products[:, None, None, None]


def name_players(names: Sequence[int], players: Sequence[int], grid: PatchGrid) -> NDArray[np.bool_]:
    """Return the patches that each set demands, [K, P]: the players that its name does not drop."""
    # Bit b of a name drops the player b.
    demanded = np.zeros((len(names), grid.count), dtype=bool)
    for row, name in enumerate(names):
        demanded[row, [patch for bit, patch in enumerate(players) if not name >> bit & 1]] = True
    return demanded
