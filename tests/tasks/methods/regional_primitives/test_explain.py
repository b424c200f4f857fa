"""One subject explained: which patches are analysed around a region, who is blamed, and what is kept of it."""

import pytest
import torch

from tailforge.schemas.errors import ExplanationError
from tailforge.tasks.methods.regional_primitives.decompose import DecomposeSettings
from tailforge.tasks.methods.regional_primitives.demands import draw_subject
from tailforge.tasks.methods.regional_primitives.explain import choose_near, explain, mend
from tailforge.tasks.methods.regional_primitives.ledger import MEASURED, collect_arrays, list_components, summarise
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid
from tailforge.tasks.methods.regional_primitives.repair import RepairSettings
from tailforge.tasks.methods.regional_primitives.trace import box_region
from tests.support.tiny_tails import conv_subject, planted_subject

GRID = PatchGrid(3, 3, 12, 12)
FIELDS: list[tuple[int, ...]] = [(0,), (1,), (2,), (3,), (4,), (5,), (6,), (7,), (8,), (0, 1)]


def test_patches_around_a_region_come_first() -> None:
    subject = planted_subject(GRID, FIELDS)
    drawn = draw_subject(subject, GRID)
    corner = box_region(GRID, 0, 0, 4, 4)
    assert choose_near(GRID, drawn, corner, 9) == (0, 1, 3, 4)
    two = choose_near(GRID, drawn, corner, 2)
    assert len(two) == 2
    assert 0 in two
    assert choose_near(GRID, drawn, box_region(GRID, 3, 3, 5, 5), 9) == tuple(range(9))


def test_a_region_where_nothing_is_drawn_is_refused() -> None:
    subject = planted_subject(GRID, [(0,), (1,)])
    with pytest.raises(ExplanationError, match="nothing of the region differs"):
        choose_near(GRID, draw_subject(subject, GRID), box_region(GRID, 8, 8, 12, 12), 9)


def test_the_planted_components_of_a_region_are_blamed_and_mended() -> None:
    subject = planted_subject(GRID, FIELDS)
    region = box_region(GRID, 0, 0, 4, 4)
    explained = explain(subject, GRID, DecomposeSettings(order=2), region)
    blamed = [explained.found.fields[row] for row in explained.blamed]
    assert blamed == [(0,)]  # the field (0, 1) lies half outside
    goal = explained.found.drawn.origin
    before = float((explained.found.drawn.image - goal)[..., region].square().mean())

    def defect(images: torch.Tensor) -> torch.Tensor:
        return (images - goal)[..., region].square().mean((1, 2))

    made = mend(explained, defect, RepairSettings(outside_weight=0, psnr_outside=0))
    assert made.taken.route == "primitives"
    assert made.taken.score < 0.7 * before


def test_the_ledger_holds_every_component_and_what_was_measured() -> None:
    subject = conv_subject(torch.nn.Tanh())
    grid = PatchGrid(2, 2, 8, 8)
    explained = explain(subject, grid, DecomposeSettings(order=2), box_region(grid, 0, 0, 4, 4))
    rows, arrays = list_components(explained), collect_arrays(explained)
    assert [row["component"] for row in rows] == list(range(len(explained.found.names)))
    shown = [row for row in rows if row["shown"] is not None]
    assert sorted(row["shown"] for row in shown) == list(range(len(arrays["deleted"])))
    assert all(row[name] is None for row in rows if row["shown"] is None for name in MEASURED)
    assert all(0 <= row["containment"] <= 1 for row in shown)
    assert sorted(row["region_rank"] for row in shown if row["region_rank"]) == [
        1 + k for k in range(len(explained.traced))
    ]
    told = summarise(explained)
    assert told["components"] == len(rows)
    assert 0 <= told["rest_share"] <= 1
    assert arrays["region"].sum() == 16
