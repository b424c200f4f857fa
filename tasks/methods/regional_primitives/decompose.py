"""Decompose one feature into components, f = f0 + rest + truncated + sum of Df(T), and check it before reporting.

`rest` = f - u(N) is the part of f beyond the demand of all analysed patches: it draws nothing, or patches that are not
analysed. In the paper u(N) = f. With features found as here, that part belongs to no patch and would enter every
component with alternating signs. To keep it apart is our own choice; completeness stays exact. `truncated` = u(N) - f0
- sum of Df(T) is the sum of the components of more than `order` patches; 0 with all sets.

The gate: a component is reported only if every u(S) behind it draws its patches to within `gate`. The error of a
component of |T| patches is up to 2^(|T| / 2) times the error of a single u(S).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailforge.schemas.errors import ExplanationError
from tailforge.tasks.methods.regional_primitives.demands import (
    Drawn,
    Observe,
    SolveSettings,
    Subject,
    draw_subject,
    name_players,
    solve_demands,
)
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid, choose_players
from tailforge.tasks.methods.regional_primitives.subsets import (
    bits_of,
    count_dropped,
    list_dropped,
    to_components,
    worst_used,
)

FULL_PLAYERS = 9  # 2^9 sets
ORDER_PLAYERS = 36
SALIENT = 0.05  # of the strongest component


@dataclass(frozen=True)
class DecomposeSettings:
    """`order`: the largest number of patches per component; None: all sets, of at most 9 patches.

    `memory_gib` bounds the features of all sets together; `solve.batch` bounds the solves.
    """

    order: int | None = 2
    gate: float = 1e-2
    memory_gib: float = 4.0
    solve: SolveSettings = field(default_factory=SolveSettings)


@dataclass(frozen=True)
class Decomposition:
    """The components of one feature, in the order of `names`.

    names [K]: the bits of each field among `players`; fields: its patches of the grid; changes: Df [K, C, h, w];
    strengths [K]: |Df / s|; worst [K]: largest residual behind the component; residual_all: res(N).
    """

    grid: PatchGrid
    players: tuple[int, ...]
    drawn: Drawn
    names: tuple[int, ...]
    fields: tuple[tuple[int, ...], ...]
    changes: Tensor
    strengths: NDArray[np.float64]
    worst: NDArray[np.float64]
    residual_all: float
    rest: Tensor
    truncated: Tensor
    gate: float

    @property
    def reported(self) -> NDArray[np.bool_]:
        """Return which components [K] passed the gate."""
        return self.worst <= self.gate

    @property
    def salient(self) -> NDArray[np.intp]:
        """Return the reported components above 5 % of the strongest reported one, strongest first: [salient]."""
        # Unreported components count as zero, so they never lead the list.
        strong = np.where(self.reported, self.strengths, 0.0)
        order = np.argsort(-strong, kind="stable")
        found: NDArray[np.intp] = order[strong[order] > SALIENT * strong.max()]
        return found


def decompose(
    subject: Subject,
    grid: PatchGrid,
    settings: DecomposeSettings,
    players: Sequence[int] | None = None,
    observe: Observe = lambda done, total: None,
) -> Decomposition:
    """Decompose the subject's feature over the given patches, by default those that change most.

    Errors: ExplanationError for too many patches or too little memory, for a patch that is off the grid or does not
    change, and if not even the demand of all patches is met.
    """
    # Choose the patches, the players of the decomposition.
    drawn = draw_subject(subject, grid)
    limit = FULL_PLAYERS if settings.order is None else ORDER_PLAYERS
    chosen = choose_players(drawn.energies, limit) if players is None else check_players(players, drawn, grid, limit)

    # Find u(N \ T) for every T: the feature that draws all patches but those in T.
    require_memory(subject.feature, count_dropped(len(chosen), settings.order), settings.memory_gib)
    dropped = list_dropped(len(chosen), settings.order)
    demanded = name_players(dropped, chosen, grid)
    features, residuals = solve_demands(subject, grid, drawn, demanded, settings.solve, observe)

    # The gate for all patches together: without it no component is reliable.
    if not residuals[0] <= settings.gate:
        raise ExplanationError(
            f"the demand of all {len(chosen)} patches is met only to {residuals[0]:.3f} of the change, and "
            f"{settings.gate} is the limit, so no component can be believed; choose a later layer, or allow more "
            "corrections"
        )

    # Differences of the features give the components; the order of the sets stays.
    whole = features[:1].clone()
    changes = to_components(features, dropped)[1:]
    return Decomposition(
        grid=grid,
        players=chosen,
        drawn=drawn,
        names=tuple(dropped[1:]),
        fields=tuple(tuple(chosen[bit] for bit in bits_of(name)) for name in dropped[1:]),
        changes=changes,
        strengths=measure_strengths(changes, subject.spread),
        worst=worst_used(residuals, dropped)[1:],
        residual_all=float(residuals[0]),
        rest=subject.feature - whole,
        truncated=whole - subject.baseline - changes.sum(0, keepdim=True),
        gate=settings.gate,
    )


def check_players(players: Sequence[int], drawn: Drawn, grid: PatchGrid, limit: int) -> tuple[int, ...]:
    """Check the given patches and return them in the grid's order. Errors: ExplanationError."""
    # Each patch counts once, in the grid's order.
    asked = tuple(sorted(set(players)))
    if foreign := [patch for patch in asked if not 0 <= patch < grid.count]:
        raise ExplanationError(f"patch {foreign[0]} is off the grid; its patches are 0 to {grid.count - 1}")
    if not 1 <= len(asked) <= limit:
        raise ExplanationError(
            f"{len(asked)} patches are to be analysed; with all sets it may be {FULL_PLAYERS}, at a bounded order "
            f"{ORDER_PLAYERS}, and at least one"
        )
    if still := [patch for patch in asked if float(drawn.energies[patch]) == 0]:
        raise ExplanationError(f"patch {still[0]} is the baseline's own and demands nothing; leave it out")
    return asked


def require_memory(feature: Tensor, sets: int, limit_gib: float) -> None:
    """Check the memory of `sets` features [1, C, h, w]. Errors: ExplanationError if they take more than the limit."""
    # All features are held at once, as the differences mix them.
    needed = sets * feature.numel() * feature.element_size() / 2**30
    if needed > limit_gib:
        raise ExplanationError(
            f"{sets} sets of features of the shape {tuple(feature.shape[1:])} take {needed:.1f} GiB, and {limit_gib} "
            "are allowed; choose an earlier layer, fewer patches or a lower order, or allow more memory"
        )


def measure_strengths(changes: Tensor, spread: Tensor) -> NDArray[np.float64]:
    """Return |Df / s| of every component, [K]."""
    # One component at a time: dividing all at once would double the memory.
    norms: NDArray[np.float64] = torch.stack([(change / spread).norm() for change in changes]).double().cpu().numpy()
    return norms
