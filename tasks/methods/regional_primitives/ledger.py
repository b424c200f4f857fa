"""Turn the findings of an explanation into rows and arrays to store: its ledger."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tailforge.tasks.methods.regional_primitives.explain import Explained
from tailforge.tasks.methods.regional_primitives.fields import containment, patch_energies, real_fields
from tailforge.tasks.methods.regional_primitives.trace import split_energy
from tailforge.tasks.methods.sampling.pixels import to_pixels

MEASURED = ("shown", "energy", "containment", "real_patches", "region_energy", "region_share", "region_rank")


def list_components(explained: Explained) -> list[dict[str, Any]]:
    """Return one row per component, in the order of the decomposition; values that were not measured are None.

    `shown`: its place in the arrays; `energy`: of the change by its removal; `containment`: the share of that energy
    inside its patches; `region_energy`, `region_share`, `region_rank`: of the traced region.
    """
    # Every component has a strength; only the shown ones have measured effects.
    found = explained.found
    unmeasured = dict.fromkeys(MEASURED)
    rows: list[dict[str, Any]] = [
        {
            **unmeasured,
            "component": k,
            "patches": list(found.fields[k]),
            "strength": float(found.strengths[k]),
            "residual": float(found.worst[k]),
            "reported": bool(found.reported[k]),
        }
        for k in range(len(found.names))
    ]

    # Add the measured effects to the rows of the shown components.
    for place, more in enumerate(_measure(explained)):
        rows[explained.shown[place]] |= more
    return rows


def _measure(explained: Explained) -> list[dict[str, Any]]:
    # All measurements read the image's change by removing the component.
    effects, grid = explained.effects, explained.found.grid
    shares = containment(grid, effects.deleted, effects.nominal)
    energies = patch_energies(grid, effects.deleted).sum(1)
    reals = real_fields(grid, effects.deleted)
    rows: list[dict[str, Any]] = [
        {
            "shown": place,
            "energy": float(energies[place]),
            "containment": float(shares[place]),
            "real_patches": [int(patch) for patch in np.flatnonzero(reals[place])],
        }
        for place in range(len(energies))
    ]

    # With a region, also the energy of each change inside it and the rank in the trace.
    if explained.region is not None:
        inside, parts = split_energy(effects.deleted, explained.region)
        ranks = {each.row: rank for rank, each in enumerate(explained.traced, 1)}
        for place, row in enumerate(rows):
            row |= {
                "region_energy": float(inside[place]),
                "region_share": float(parts[place]),
                "region_rank": ranks.get(place),
            }
    return rows


def collect_arrays(explained: Explained) -> dict[str, NDArray[Any]]:
    """Return what the rows do not hold, by name; the rows of S arrays are in the order of `shown`.

    image, baseline: uint8 [H, W, 3]; added, deleted: float16 [S, 3, H, W], changes of an image in -1..1; changes:
    float16 [S, C, h, w] of the feature; spread: [C]; players: the analysed patches; region: bool [H, W], if any.
    """
    # The rows of all arrays follow `shown`, so that the table and the arrays match.
    found, effects = explained.found, explained.effects
    arrays: dict[str, NDArray[Any]] = {
        "image": to_pixels(found.drawn.image)[0],
        "baseline": to_pixels(found.drawn.origin)[0],
        "added": _half(effects.added),
        "deleted": _half(effects.deleted),
        "changes": _half(found.changes[list(explained.shown)]),
        "spread": explained.subject.spread.flatten().cpu().numpy(),
        "players": np.array(found.players, np.int32),
    }
    if explained.region is not None:
        arrays["region"] = explained.region.numpy()
    return arrays


def _half(values: Tensor) -> NDArray[np.float16]:
    return values.half().cpu().numpy()


def summarise(explained: Explained) -> dict[str, Any]:
    """Return figures of the whole: the residual of all demands, and the shares of |f - f0| that no component holds."""
    found, subject = explained.found, explained.subject

    def share(part: Tensor) -> float:
        # Length in the metric s, as a share of the length of the whole change.
        return float((part / subject.spread).norm() / ((subject.feature - subject.baseline) / subject.spread).norm())

    return {
        "players": list(found.players),
        "components": len(found.names),
        "reported": int(found.reported.sum()),
        "salient": len(found.salient),
        "residual": found.residual_all,
        "rest_share": share(found.rest),
        "truncated_share": share(found.truncated),
    }
