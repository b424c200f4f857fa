"""Features decomposed through real tails: planted components, the identities, the gate, and the bounds on work."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tailforge.schemas.errors import ExplanationError
from tailforge.tasks.methods.regional_primitives.decompose import DecomposeSettings, Decomposition, decompose
from tailforge.tasks.methods.regional_primitives.demands import SolveSettings, Subject
from tailforge.tasks.methods.regional_primitives.fields import containment, measure_effects, overlap, real_fields
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid
from tests.support.tiny_tails import SIZE, conv_subject, planted_subject

GRID = PatchGrid(3, 3, SIZE, SIZE)
QUARTERS = PatchGrid(2, 2, 8, 8)
EXACT = SolveSettings(tolerance=1e-10, damping=1e-13, start_iterations=60, correction_iterations=30)
PLANTED = [(0,), (4,), (0, 1), (3, 4, 6), (5, 8), (2, 7)]


def find(found: Decomposition, field: tuple[int, ...]) -> Tensor:
    return found.changes[found.fields.index(field)]


def test_planted_components_are_recovered() -> None:
    subject = planted_subject(GRID, PLANTED)
    found = decompose(subject, GRID, DecomposeSettings(order=None, solve=EXACT))
    change = (subject.feature - subject.baseline)[0]
    for field, row in zip(found.fields, found.changes, strict=True):
        expected = torch.zeros_like(change)
        for k in [k for k, planted in enumerate(PLANTED) if planted == field]:
            expected[k] = change[k]
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-6)
    assert {found.fields[k] for k in found.salient} == set(PLANTED)
    assert found.rest.abs().max() < 1e-6


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 3), min_size=1).map(lambda field: tuple(sorted(field))), min_size=1, unique=True),
    st.integers(0, 9),
)
def test_any_planted_components_are_recovered(fields: list[tuple[int, ...]], seed: int) -> None:
    grid = PatchGrid(2, 2, SIZE, SIZE)
    subject = planted_subject(grid, fields, seed)
    found = decompose(subject, grid, DecomposeSettings(order=None, solve=EXACT))
    assert {found.fields[k] for k in found.salient} == set(fields)
    for k, field in enumerate(fields):
        assert find(found, field)[k, 0, 0] == pytest.approx(float((subject.feature - subject.baseline)[0, k]), abs=1e-6)


@pytest.mark.parametrize("order", [1, 2, None])
def test_the_feature_is_the_sum_of_its_parts(order: int | None) -> None:
    subject = conv_subject(nn.SiLU())
    found = decompose(subject, QUARTERS, DecomposeSettings(order=order))
    whole = subject.baseline + found.rest + found.truncated + found.changes.sum(0, keepdim=True)
    torch.testing.assert_close(whole, subject.feature, rtol=0, atol=1e-12)
    if order is None:
        assert found.truncated.abs().max() < 1e-12


def test_low_orders_agree_with_all_sets() -> None:
    subject = conv_subject(nn.SiLU())
    whole, few = (decompose(subject, QUARTERS, DecomposeSettings(order=order)) for order in (None, 2))
    for field in few.fields:
        torch.testing.assert_close(find(few, field), find(whole, field), rtol=0, atol=1e-9)


def test_an_affine_tail_leaks_nothing() -> None:
    subject = conv_subject(nn.Identity())
    found = decompose(subject, QUARTERS, DecomposeSettings(order=None, solve=EXACT))
    effects = measure_effects(subject, found, list(found.salient))
    assert (1 - containment(QUARTERS, effects.added, effects.nominal)).max() < 1e-9
    torch.testing.assert_close(effects.added, effects.deleted, rtol=0, atol=1e-9)


def test_fields_of_a_curved_tail_lie_where_they_should() -> None:
    subject = conv_subject(nn.SiLU())
    found = decompose(subject, QUARTERS, DecomposeSettings(order=2))
    effects = measure_effects(subject, found, list(found.salient[:4]))
    assert containment(QUARTERS, effects.deleted, effects.nominal).min() > 0.85
    assert overlap(real_fields(QUARTERS, effects.deleted), effects.nominal).min() == 1.0


def test_the_batch_bounds_the_solves_and_changes_nothing() -> None:
    subject = conv_subject(nn.SiLU())
    seen: list[int] = []

    def watched(features: Tensor) -> Tensor:
        seen.append(len(features))
        return torch.as_tensor(subject.tail(features))

    whole = decompose(subject, QUARTERS, DecomposeSettings(order=2))
    few = decompose(replace(subject, tail=watched), QUARTERS, DecomposeSettings(order=2, solve=SolveSettings(batch=3)))
    assert max(seen) == 3
    torch.testing.assert_close(few.changes, whole.changes, rtol=0, atol=1e-6)


def test_what_has_not_converged_is_not_reported() -> None:
    subject = conv_subject(nn.SiLU())
    hasty = SolveSettings(start_iterations=2, corrections=1, correction_iterations=1)
    found = decompose(subject, QUARTERS, DecomposeSettings(order=2, gate=1.0, solve=hasty))
    gated = replace(found, gate=float(np.median(found.worst)))
    assert 0 < gated.reported.sum() < len(gated.names)
    assert set(gated.salient) <= set(np.flatnonzero(gated.worst <= gated.gate))
    with pytest.raises(ExplanationError, match=r"met only to 0\.\d+ of the change.*later layer"):
        decompose(subject, QUARTERS, DecomposeSettings(order=2, gate=1e-3, solve=hasty))


def test_only_patches_that_change_are_analysed() -> None:
    subject = planted_subject(GRID, [(1,), (5,)])
    assert decompose(subject, GRID, DecomposeSettings()).players == (1, 5)


def refuse(match: str, subject: Subject | None = None, grid: PatchGrid = QUARTERS, **options: object) -> None:
    players = options.pop("players", None)
    with pytest.raises(ExplanationError, match=match):
        decompose(subject or conv_subject(nn.SiLU()), grid, DecomposeSettings(**options), players)  # type: ignore[arg-type]


def test_what_cannot_be_decomposed_is_refused() -> None:
    subject = conv_subject(nn.SiLU())
    refuse("is off the grid; its patches are 0 to 3", players=[9])
    refuse(
        "10 patches are to be analysed; with all sets it may be 9",
        grid=PatchGrid(4, 4, 8, 8),
        order=None,
        players=range(10),
    )
    refuse("GiB, and 1e-06 are allowed; choose an earlier layer", memory_gib=1e-6)
    refuse("the grid is for 16 x 16 pixels, but the image has 8 x 8", grid=PatchGrid(3, 3, 16, 16))
    refuse("nothing to explain", replace(subject, feature=subject.baseline.clone()))
    refuse("patch 0 is the baseline's own", planted_subject(GRID, [(1,)]), GRID, players=[0, 1])
    with pytest.raises(ExplanationError, match="does not fit an image of 4 x 4"):
        PatchGrid(6, 6, 4, 4)
    with pytest.raises(ExplanationError, match="spread is 0"):
        replace(subject, spread=torch.zeros_like(subject.spread))
    with pytest.raises(ExplanationError, match="passes no gradient"):
        decompose(replace(subject, tail=lambda h: subject.tail(h).detach()), QUARTERS, DecomposeSettings())
