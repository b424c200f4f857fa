"""From a region to its components, and back to a mended image: planted faults are found, bounds hold."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tailforge.schemas.errors import ExplanationError
from tailforge.tasks.methods.regional_primitives.baselines import factorise_feature, map_gradient
from tailforge.tasks.methods.regional_primitives.decompose import DecomposeSettings, Decomposition, decompose
from tailforge.tasks.methods.regional_primitives.demands import SolveSettings, Subject
from tailforge.tasks.methods.regional_primitives.fields import measure_effects
from tailforge.tasks.methods.regional_primitives.inpaint import InpaintSettings, inpaint_region
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid
from tailforge.tasks.methods.regional_primitives.repair import RepairSettings, repair_region
from tailforge.tasks.methods.regional_primitives.trace import Traced, box_region, mask_region, trace_region
from tailforge.tasks.models.unet_generator import UNetGenerator
from tests.support.tiny_generators import build_sd
from tests.support.tiny_tails import SIZE, conv_subject, planted_subject

GRID = PatchGrid(3, 3, SIZE, SIZE)
EXACT = SolveSettings(tolerance=1e-10, damping=1e-13, start_iterations=60, correction_iterations=30)
PLANTED = [(0,), (4,), (0, 1), (3, 4, 6), (5, 8)]
MIDDLE = box_region(GRID, 3, 3, 6, 6)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return planted_subject(GRID, PLANTED)


@pytest.fixture(scope="module")
def found(subject: Subject) -> Decomposition:
    return decompose(subject, GRID, DecomposeSettings(order=3, solve=EXACT))


def trace(subject: Subject, found: Decomposition, region: Tensor) -> tuple[list[Traced], list[tuple[int, ...]]]:
    chosen = list(found.salient)
    traced = trace_region(measure_effects(subject, found, chosen), region)
    return traced, [found.fields[chosen[each.row]] for each in traced]


def test_the_components_of_a_region_are_found(subject: Subject, found: Decomposition) -> None:
    traced, fields = trace(subject, found, MIDDLE)
    assert fields == [(4,)]
    assert traced[0].share == pytest.approx(1)
    assert trace(subject, found, box_region(GRID, 0, 0, 6, 3))[1][0] in [(0,), (0, 1)]
    assert set(trace(subject, found, box_region(GRID, 0, 0, 6, 3))[1]) == {(0,), (0, 1)}
    assert trace(subject, found, box_region(GRID, 6, 0, 9, 3))[0] == []


def faulty_middle(subject: Subject, found: Decomposition) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A score that wants the image without half of component (4,), and that component."""
    change = found.changes[[found.fields.index((4,))]]
    with torch.no_grad():
        wanted = subject.tail(subject.feature - 0.5 * change)
    return lambda images: (images - wanted)[..., MIDDLE].square().mean((1, 2)), change


def test_a_fault_is_turned_down_and_the_rest_stays(subject: Subject, found: Decomposition) -> None:
    defect, change = faulty_middle(subject, found)
    made = repair_region(subject, change, MIDDLE, defect, RepairSettings())
    assert made.taken.route == "primitives"
    assert made.taken.gains[0] == pytest.approx(0.5, abs=0.05)
    assert made.taken.score < 0.05 * made.before
    assert made.taken.psnr_outside > 100


def test_the_best_of_what_is_accepted_is_taken(subject: Subject, found: Decomposition) -> None:
    defect, change = faulty_middle(subject, found)
    with torch.no_grad():
        image, wanted = subject.tail(subject.feature), subject.tail(subject.feature - 0.5 * change)
    better, worse = torch.where(MIDDLE, wanted, image), torch.where(MIDDLE, (image + wanted) / 2, image)
    made = repair_region(subject, change, MIDDLE, defect, RepairSettings(iterations=2), [worse, better])
    assert [each.accepted for each in made.attempts[1:]] == [True, True]
    assert torch.equal(made.taken.image, better)


def test_a_fooled_score_is_refused_by_the_anchor(subject: Subject, found: Decomposition) -> None:
    """The score wants all of the middle gone; the anchor says that a tenth of it is too much."""
    change = found.changes[[found.fields.index((4,))]]
    with torch.no_grad():
        image, anchor = subject.tail(subject.feature), subject.tail(subject.feature - 0.1 * change)

    def defect(images: Tensor) -> Tensor:
        return images[..., MIDDLE].square().mean((1, 2))

    alone = repair_region(subject, change, MIDDLE, defect, RepairSettings(improvement=0.01))
    assert alone.taken.route == "primitives"
    made = repair_region(subject, change, MIDDLE, defect, RepairSettings(improvement=0.01), anchor=anchor)
    assert [each.route for each in made.attempts] == ["primitives", "anchor"]
    assert [each.accepted for each in made.attempts] == [False, True]
    assert torch.equal(made.taken.image, torch.where(MIDDLE, anchor, image))


def test_a_change_that_reaches_outside_is_bounded_and_the_rival_taken(subject: Subject, found: Decomposition) -> None:
    change = found.changes[[found.fields.index((3, 4, 6))]]
    with torch.no_grad():
        image, wanted = subject.tail(subject.feature), subject.tail(subject.feature - change)
    rival = torch.where(MIDDLE, wanted, image)

    def defect(images: Tensor) -> Tensor:
        return (images - wanted)[..., MIDDLE].square().mean((1, 2))

    made = repair_region(
        subject, change, MIDDLE, defect, RepairSettings(outside_weight=0.0, improvement=0.5), [image, rival]
    )
    assert [each.route for each in made.attempts] == ["primitives", "inpaint", "inpaint"]
    assert [each.accepted for each in made.attempts] == [False, False, True]
    assert made.attempts[0].psnr_outside >= 40
    assert torch.equal(made.taken.image, rival)


def test_an_image_that_nothing_mends_stays(subject: Subject, found: Decomposition) -> None:
    with torch.no_grad():
        image = subject.tail(subject.feature)
    made = repair_region(
        subject, found.changes[:0], MIDDLE, lambda images: images.new_ones(len(images)), RepairSettings()
    )
    assert made.taken.route == "none"
    assert torch.equal(made.taken.image, image)
    with pytest.raises(ExplanationError, match="is no number"):
        repair_region(
            subject, found.changes[:1], MIDDLE, lambda images: images.mean((1, 2, 3)) * np.nan, RepairSettings()
        )


@pytest.mark.parametrize("box", [(-1, 0, 3, 3), (0, 0, 10, 3), (3, 3, 3, 6), (5, 0, 2, 3), (0, 8, 3, 12)])
def test_a_region_off_the_image_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ExplanationError, match=r"off the image or empty; the image has 9 x 9 pixels"):
        box_region(GRID, *box)


def test_a_mask_must_fit_and_mark_something() -> None:
    with pytest.raises(ExplanationError, match="mask has 4 x 4 pixels, the image 9 x 9"):
        mask_region(GRID, np.ones((4, 4), bool))
    with pytest.raises(ExplanationError, match="is empty"):
        mask_region(GRID, np.zeros((9, 9), bool))
    assert torch.equal(mask_region(GRID, MIDDLE.numpy()), MIDDLE)


def test_inpainting_redraws_the_region_alone_by_its_seed() -> None:
    model = UNetGenerator(build_sd())
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    region = torch.zeros(32, 32, dtype=torch.bool)
    region[8:20, 4:16] = True
    text, negative = model.encode_prompt("a photo of a gear"), model.encode_negative("")
    settings = InpaintSettings(steps=6)
    first, second = inpaint_region(model, latents, region, text, negative, settings, (1, 2))
    (again,) = inpaint_region(model, latents, region, text, negative, settings, (1,))
    with torch.no_grad():
        image = model.decode(latents)
    assert torch.equal(first, again)
    assert torch.equal(first[..., ~region], image[..., ~region])
    assert not torch.equal(first[..., region], image[..., region])
    assert not torch.equal(first, second)
    (still,) = inpaint_region(model, latents, region, text, negative, InpaintSettings(strength=0, steps=6), (1,))
    assert torch.equal(still, image)


def test_the_gradient_map_lies_where_the_region_is_drawn() -> None:
    subject = conv_subject(nn.SiLU())
    region = torch.zeros(8, 8, dtype=torch.bool)
    region[:3, :3] = True
    cells = map_gradient(subject, region)
    assert cells.shape == (8, 8)
    assert cells[:3, :3].mean() > 0
    assert cells[4:].max() == 0
    assert cells[:, 4:].max() == 0


def test_parts_of_a_feature_are_found_again() -> None:
    maps = torch.zeros(2, 6, 6, dtype=torch.float64)
    maps[0, :3], maps[1, 3:] = 1.0, 2.0
    looks = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]], dtype=torch.float64)
    planted = torch.einsum("rc,rhw->rchw", looks, maps)
    feature = planted.sum(0, keepdim=True)
    subject = Subject(nn.Identity(), feature, torch.zeros_like(feature), torch.ones(1, 3, 1, 1, dtype=torch.float64))
    parts = factorise_feature(subject, 2)
    torch.testing.assert_close(parts.sum(0, keepdim=True), feature, rtol=0, atol=1e-3)
    assert torch.equal(parts, factorise_feature(subject, 2))
