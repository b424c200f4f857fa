"""What is measured of a decomposition: containment, curves of deletion and insertion, held-out sets, sparsity.

Controls are changes [K, C, h, w] of the same feature that were found in another way, measured by the same functions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tailforge.tasks.methods.regional_primitives.baselines import factorise_feature, map_gradient
from tailforge.tasks.methods.regional_primitives.decompose import Decomposition
from tailforge.tasks.methods.regional_primitives.demands import SolveSettings, Subject, solve_demands
from tailforge.tasks.methods.regional_primitives.fields import containment, patch_energies
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid, square_change
from tailforge.tasks.methods.regional_primitives.trace import split_energy
from tests.benchmarks.primitives.subjects import GRID

PARTS = 16  # of a factorisation
CURVE_POINTS = 40
PASS = 32  # features drawn together
FIELD = 0.05  # of a part's strongest patch: where it is said to lie
SCATTERED, BLOCKS = (3, 4, 6, 9), ((2, 2), (2, 3), (3, 3))  # held-out patches
REPEATS = 2  # of every held-out number of patches

Values = NDArray[np.float64]


@torch.no_grad()
def draw(subject: Subject, features: Tensor) -> Tensor:
    return torch.cat([subject.tail(part) for part in torch.split(features, PASS)])


def deletions(subject: Subject, changes: Tensor) -> Tensor:
    """x - g(f - Df), [K, 3, H, W]."""
    parts = [
        draw(subject, subject.feature) - draw(subject, subject.feature - part) for part in torch.split(changes, PASS)
    ]
    return torch.cat(parts)


def random_directions(subject: Subject, changes: Tensor, rng: torch.Generator, inside: Tensor | None = None) -> Tensor:
    """As many random changes, each of a component's norm |Df / s|; `inside` [K, 1, h, w] bounds where they lie."""
    noise = torch.randn(changes.shape, generator=rng)
    noise = noise if inside is None else noise * inside
    norms = [(each / subject.spread).norm() for each in changes]
    scale = torch.stack(norms) / noise.flatten(1).norm(dim=1)
    scaled: Tensor = noise * scale[:, None, None, None] * subject.spread
    return scaled


def measure_containment(
    subject: Subject, found: Decomposition, chosen: Sequence[int], rng: torch.Generator
) -> dict[str, float]:
    """Mean over the chosen components of the share of their change inside their patches, and of their controls'."""
    changes = found.changes[torch.tensor(chosen)]
    fields = np.zeros((len(chosen), GRID.count), dtype=bool)
    for row, number in enumerate(chosen):
        fields[row, list(found.fields[number])] = True
    cells = GRID.spread(torch.from_numpy(fields).float())[:, None]
    whole = subject.feature - subject.baseline
    added = draw(subject, subject.baseline + changes) - found.drawn.origin

    def of(other: Tensor) -> float:
        return float(containment(GRID, deletions(subject, other), fields).mean())

    return {
        "ours": of(changes),
        "ours/added": float(containment(GRID, added, fields).mean()),
        "ours/shuffled_fields": float(containment(GRID, deletions(subject, changes), shuffle_fields(fields)).mean()),
        "random_direction": of(random_directions(subject, changes, rng)),
        "random_direction/in_field": of(random_directions(subject, changes, rng, cells)),
        "cells_of_field": of(whole * cells),
        "chance": float(fields.sum(1).mean()) / GRID.count,
    }


def shuffle_fields(fields: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Each component with the field of another."""
    shuffled: NDArray[np.bool_] = fields[np.random.default_rng(0).permutation(len(fields))]
    return shuffled


def contain_parts(subject: Subject, parts: Tensor) -> float:
    """Mean containment of the parts of a factorisation."""
    return float(containment(GRID, deletions(subject, parts), place_parts(parts)).mean())


def place_parts(parts: Tensor) -> NDArray[np.bool_]:
    """Where parts are said to lie, [K, P]: the patches where their feature is strong."""
    energies = patch_energies(GRID, parts)
    fields: NDArray[np.bool_] = energies > FIELD * energies.max(1, keepdims=True)
    return fields


def contain_gradient(subject: Subject, patches: Sequence[int]) -> float:
    """Mean share of a patch's gradient map that lies on the cells of the patch."""
    shares = []
    for patch in patches:
        sums = GRID.pool(map_gradient(subject, GRID.numbers() == patch)[None])[0]
        shares.append(float(sums[patch] / sums.sum()))
    return float(np.mean(shares))


def rank_by_blame(subject: Subject, changes: Tensor, region: Tensor) -> list[int]:
    """Rows by energy inside the region times share inside, as tracing ranks; the most responsible first."""
    energy, share = split_energy(deletions(subject, changes), region)
    return [int(row) for row in np.argsort(-energy * share, kind="stable")]


def measure_curves(subject: Subject, ordered: Tensor, region: Tensor) -> dict[str, Any]:
    """Areas under what is deleted (from f) and inserted (into f0) inside the region against outside, and the curves."""
    steps = np.unique(np.geomspace(1, len(ordered), CURVE_POINTS).round().astype(int))
    sums, done, before = [], torch.zeros_like(ordered[0]), 0
    for step in steps:
        done, before = done + ordered[before:step].sum(0), int(step)
        sums.append(done)
    return trace_curves(subject, torch.stack(sums), region)


def measure_cell_curves(subject: Subject, heat: Tensor, region: Tensor) -> dict[str, Any]:
    """The same for cells [h, w], the hottest first."""
    order = heat.flatten().argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    steps = np.unique(np.geomspace(1, len(order), CURVE_POINTS).round().astype(int))
    masks = torch.stack([(rank < int(step)).view(heat.shape) for step in steps])
    return trace_curves(subject, (subject.feature - subject.baseline) * masks[:, None], region)


def trace_curves(subject: Subject, sums: Tensor, region: Tensor) -> dict[str, Any]:
    """`sums` [M, C, h, w]: what is taken from f, or added to f0, at each point."""
    image, origin = draw(subject, subject.feature), draw(subject, subject.baseline)
    deleted = errors(draw(subject, subject.feature - sums), image, origin, region)
    inserted = 1 - errors(draw(subject, subject.baseline + sums), image, origin, region)
    return {"deletion": close_curve(deleted), "insertion": close_curve(inserted)}


def errors(images: Tensor, image: Tensor, origin: Tensor, region: Tensor) -> Values:
    """|image - x|^2 over |x - x0|^2, outside and inside the region: [M, 2]."""
    parts = [~region, region]
    whole = square_change(image, origin)
    found = square_change(images, image)
    return np.stack([(found[:, part].sum(1) / whole[:, part].sum(1)).numpy() for part in parts], 1).astype(float)


def close_curve(points: Values) -> list[list[float]]:
    """Points (outside, inside) from 0, 0 to 1, 1: the most that was reached so far, bounded by 1."""
    bounded = np.maximum.accumulate(points.clip(0, 1), axis=0)
    closed: list[list[float]] = np.concatenate([[[0.0, 0.0]], bounded, [[1.0, 1.0]]]).tolist()
    return closed


def area(curve: Sequence[Sequence[float]]) -> float:
    """Under inside against outside: 1 where the region goes first, 0.5 where no difference is made."""
    outside, inside = np.array(curve).T
    return float(np.trapezoid(inside, outside))


def choose_block(rng: np.random.Generator, players: Sequence[int], shape: tuple[int, int]) -> list[int] | None:
    """A block of patches all of which are analysed, or None."""
    rows, columns = shape
    tops = [(r, c) for r in range(GRID.rows - rows + 1) for c in range(GRID.columns - columns + 1)]
    blocks = [[(r + i) * GRID.columns + c + j for i in range(rows) for j in range(columns)] for r, c in tops]
    fitting = [block for block in blocks if set(block) <= set(players)]
    return fitting[int(rng.integers(len(fitting)))] if fitting else None


def choose_held_out(rng: np.random.Generator, players: Sequence[int]) -> list[tuple[str, list[int]]]:
    """Patches to drop together, all more than the order of two: scattered ones, and blocks."""
    found: list[tuple[str, list[int]]] = []
    for _ in range(REPEATS):
        for size in SCATTERED:
            found.append((f"scattered_{size}", [int(p) for p in rng.choice(players, size, replace=False)]))
        for shape in BLOCKS:
            if block := choose_block(rng, players, shape):
                found.append((f"block_{len(block)}", block))
    return found


def try_additivity(
    subject: Subject, found: Decomposition, rng: np.random.Generator, settings: SolveSettings
) -> list[dict[str, Any]]:
    """Errors of features predicted for sets that no component was computed from, by the components and by controls.

    The prediction starts at u(N) and takes off the components that lie among the dropped patches.
    """
    held_out = choose_held_out(rng, found.players)
    demanded = np.zeros((len(held_out), GRID.count), dtype=bool)
    for row, (_, dropped) in enumerate(held_out):
        demanded[row, list(set(found.players) - set(dropped))] = True
    solved, residuals = solve_demands(subject, GRID, found.drawn, demanded, settings)
    whole = subject.feature - found.rest
    rows = []
    for number, (name, dropped) in enumerate(held_out):
        inside = [k for k, field in enumerate(found.fields) if set(field) <= set(dropped)]
        singles = [k for k in inside if len(found.fields[k]) == 1]
        cells = torch.isin(GRID.numbers(), torch.tensor(dropped))
        guesses = {
            "ours": whole - found.changes[torch.tensor(inside)].sum(0),
            "ours/order_1": whole - found.changes[torch.tensor(singles)].sum(0),
            "no_change": whole,
            "interpolation": torch.lerp(whole, subject.baseline, len(dropped) / len(found.players)),
            "cells_of_field": torch.where(cells, subject.baseline, whole),
        }
        errors = {arm: length(subject, guess - solved[number]) for arm, guess in guesses.items()}
        rows.append(
            {
                "set": name,
                "residual": float(residuals[number]),
                "change": length(subject, subject.feature - subject.baseline),
                "errors": errors,
            }
        )
    return rows


def length(subject: Subject, change: Tensor) -> float:
    return float((change / subject.spread).norm())


def count_for(energies: Values, share: float = 0.9) -> int:
    """How many of the strongest hold that share of the summed energies."""
    ordered = np.sort(energies)[::-1].cumsum()
    return int(np.searchsorted(ordered, share * ordered[-1]) + 1)


def split_orders(found: Decomposition) -> dict[str, float]:
    """The share of the components' summed squared strengths by number of patches, and of neighbouring pairs."""
    energies, sizes = found.strengths**2, np.array([len(field) for field in found.fields])
    shares = {str(size): float(energies[sizes == size].sum() / energies.sum()) for size in np.unique(sizes)}
    pairs = sizes == 2
    near = np.array([len(field) == 2 and touch(found.grid, *field) for field in found.fields])
    return {**shares, "neighbours_of_pairs": float(energies[pairs & near].sum() / energies[pairs].sum())}


def touch(grid: PatchGrid, one: int, other: int) -> bool:
    """Do two patches share an edge or a corner?"""
    down, right = (abs(a - b) for a, b in zip(divmod(one, grid.columns), divmod(other, grid.columns), strict=True))
    return max(down, right) == 1


def factorise(subject: Subject, seed: int = 0) -> Tensor:
    return factorise_feature(subject, PARTS, seed=seed)


def match_parts(one: Tensor, other: Tensor, spread: Tensor) -> float:
    """Mean cosine of two factorisations' parts, matched as well as may be."""
    units = [(part / spread).flatten(1) for part in (one, other)]
    units = [unit / unit.norm(dim=1, keepdim=True) for unit in units]
    cosines = (units[0] @ units[1].T).double().numpy()
    return float(cosines[linear_sum_assignment(-cosines)].mean())
