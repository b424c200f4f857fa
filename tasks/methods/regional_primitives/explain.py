"""One subject explained: decomposed over the patches that matter, what its components draw, who drew a region.

Without a region all patches that change are analysed. With one, only those that meet it and their neighbours: what
draws a region lies there, and fewer patches are fewer sets to solve. Both are our own choice.
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

SHOWN = 64  # components whose effects are measured, the strongest
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
        """Rows of the decomposition that a repair of the region turns, the most responsible first."""
        return [self.shown[each.row] for each in self.traced[:BLAMED]]


def explain(
    subject: Subject,
    grid: PatchGrid,
    settings: DecomposeSettings,
    region: Tensor | None = None,
    observe: Observe = lambda done, total: None,
) -> Explained:
    """Decompose a subject and measure what its strongest components draw; with a region [H, W] also trace it.

    Errors: ExplanationError, see `decompose`; where nothing of the region changes.
    """
    players = None
    if region is not None:
        limit = FULL_PLAYERS if settings.order is None else NEAR_PLAYERS
        players = choose_near(grid, draw_subject(subject, grid), region, limit)
    found = decompose(subject, grid, settings, players, observe)
    shown = tuple(int(row) for row in found.salient[:SHOWN])
    effects = measure_effects(subject, found, shown)
    traced = () if region is None else tuple(trace_region(effects, region))
    return Explained(subject, found, shown, effects, region, traced)


def choose_near(grid: PatchGrid, drawn: Drawn, region: Tensor, limit: int) -> tuple[int, ...]:
    """Patches that meet the region [H, W] and then those beside them, as far as they change, the strongest first.

    Errors: ExplanationError where the region is the baseline's own.
    """
    changing = drawn.energies.sqrt() >= FLAT * drawn.energies.max().sqrt()
    met = grid.pool(region[None].to(drawn.energies))[0] > 0
    if not bool((met & changing).any()):
        raise ExplanationError(
            "nothing of the region differs from the mean image that explanations start from, so nothing there can be "
            "traced; choose a region where something is drawn"
        )
    beside = torch.zeros_like(met)
    for patch in torch.nonzero(met)[:, 0].tolist():
        row, column = divmod(patch, grid.columns)
        for down in range(max(row - 1, 0), min(row + 2, grid.rows)):
            beside[down * grid.columns + max(column - 1, 0) : down * grid.columns + min(column + 2, grid.columns)] = (
                True
            )
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
    """Turn the components behind the explained region, beside the anchor and the rivals; see `repair_region`."""
    assert explained.region is not None
    changes = explained.found.changes[torch.tensor(explained.blamed, dtype=torch.long)]
    return repair_region(explained.subject, changes, explained.region, defect, settings, rivals, anchor)
