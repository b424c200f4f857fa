"""Explain one subject: decompose it, measure what its components draw, and trace a region to its components.

Without a region, all changing patches are analysed. With a region, only patches that meet it and their neighbours are:
they contain what draws the region, and fewer patches are fewer sets to solve. Both are our own choice.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tailforge.schemas.errors import ExplanationError
from tailforge.tasks.methods.regional_primitives.decompose import (
    FULL_PLAYERS,
    DecomposeSettings,
    Decomposition,
    decompose,
)
from tailforge.tasks.methods.regional_primitives.demands import Drawn, Observe, Subject, draw_subject
from tailforge.tasks.methods.regional_primitives.fields import Effects, measure_effects
from tailforge.tasks.methods.regional_primitives.patches import FLAT, PatchGrid
from tailforge.tasks.methods.regional_primitives.repair import Defect, Repair, RepairSettings, repair_region
from tailforge.tasks.methods.regional_primitives.trace import Traced, trace_region

SHOWN = 64  # strongest components, with measured effects
NEAR_PLAYERS = 16  # around a region
BLAMED = 8  # components that a repair may turn


@dataclass(frozen=True)
class Explained:
    """`shown`: rows of the decomposition, strongest first, as `effects` has them; `row` of `traced` counts these."""

    subject: Subject
    found: Decomposition
    shown: tuple[int, ...]
    effects: Effects
    region: Tensor | None  # [H, W]
    traced: tuple[Traced, ...]

    @property
    def blamed(self) -> list[int]:
        """Return the rows of the decomposition that a repair of the region turns, the most responsible first."""
        return [self.shown[each.row] for each in self.traced[:BLAMED]]


def explain(
    subject: Subject,
    grid: PatchGrid,
    settings: DecomposeSettings,
    region: Tensor | None = None,
    observe: Observe = lambda done, total: None,
) -> Explained:
    """Decompose a subject and measure what its strongest components draw; with a region [H, W] also trace it.

    Errors: ExplanationError, see `decompose`; also if nothing of the region changes.
    """
    # A region limits the players to the patches around it.
    players = None
    if region is not None:
        limit = FULL_PLAYERS if settings.order is None else NEAR_PLAYERS
        players = choose_near(grid, draw_subject(subject, grid), region, limit)
    found = decompose(subject, grid, settings, players, observe)

    # Effects are measured for the strongest components only, as each costs two images.
    shown = tuple(int(row) for row in found.salient[:SHOWN])
    effects = measure_effects(subject, found, shown)
    traced = () if region is None else tuple(trace_region(effects, region))
    return Explained(subject, found, shown, effects, region, traced)


def choose_near(grid: PatchGrid, drawn: Drawn, region: Tensor, limit: int) -> tuple[int, ...]:
    """Return patches that meet the region [H, W], then their neighbours, if they change: the strongest `limit`.

    Errors: ExplanationError if the region equals the baseline's.
    """
    changing = drawn.energies.sqrt() >= FLAT * drawn.energies.max().sqrt()
    met = grid.pool(region[None].to(drawn.energies))[0] > 0
    if not bool((met & changing).any()):
        raise ExplanationError(
            "nothing of the region differs from the mean image that explanations start from, so nothing there can be "
            "traced; choose a region where something is drawn"
        )

    # The patches beside a met one, diagonals included.
    beside = torch.zeros_like(met)
    for patch in torch.nonzero(met)[:, 0].tolist():
        row, column = divmod(patch, grid.columns)
        for down in range(max(row - 1, 0), min(row + 2, grid.rows)):
            beside[down * grid.columns + max(column - 1, 0) : down * grid.columns + min(column + 2, grid.columns)] = (
                True
            )

    # Met patches come before their neighbours, and strong ones before weak ones.
    energies = drawn.energies.double().cpu().numpy()
    ranked = np.lexsort((-energies, -met.cpu().numpy().astype(int)))
    wanted = [int(patch) for patch in ranked if bool(beside[patch] & changing[patch])]
    return tuple(sorted(wanted[:limit]))


def mend(
    explained: Explained,
    defect: Defect,
    settings: RepairSettings,
    rivals: Iterable[Tensor] = (),
    anchor: Tensor | None = None,
) -> Repair:
    """Repair the explained region by its components, an anchor and rivals [1, 3, H, W]; see `repair_region`."""
    assert explained.region is not None
    changes = explained.found.changes[torch.tensor(explained.blamed, dtype=torch.long)]
    return repair_region(explained.subject, changes, explained.region, defect, settings, rivals, anchor)
