"""The workshop's contract: repeatable scenes, truthful masks, the long tail, and words that captions share."""

import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailforge.tasks.methods.workshop import (
    BALANCED,
    HEAD_PARTS,
    LONG_TAIL,
    MATERIALS,
    PARTS,
    SURFACES,
    TAIL_PARTS,
    Scene,
    caption,
    render,
    sample_scene,
)

SEEDS = st.integers(0, 2**63 - 1)
SCENES = st.builds(Scene, st.sampled_from(PARTS), st.sampled_from(MATERIALS), st.sampled_from(SURFACES), SEEDS)

AREA_AT_64 = {
    "gear": (0.13, 0.38),
    "bolt": (0.09, 0.20),
    "washer": (0.12, 0.39),
    "hex nut": (0.12, 0.37),
    "bracket": (0.11, 0.26),
    "spring": (0.11, 0.24),
    "wrench": (0.07, 0.16),
    "pulley": (0.13, 0.39),
    "cross fitting": (0.12, 0.35),
    "star knob": (0.10, 0.30),
    "wing nut": (0.10, 0.22),
    "hook": (0.06, 0.16),
}


@settings(max_examples=25)
@given(scene=SCENES)
def test_the_same_scene_gives_the_same_bytes(scene: Scene) -> None:
    first, second = render(scene), render(scene)
    assert first.image.tobytes() == second.image.tobytes()
    assert first.mask.tobytes() == second.mask.tobytes()
    assert (first.image.shape, first.image.dtype) == ((64, 64, 3), np.uint8)
    assert (first.mask.shape, first.mask.dtype) == ((64, 64), np.bool_)


def test_another_seed_gives_another_picture() -> None:
    pictures = {render(Scene("gear", "brass", "wooden bench", seed)).image.tobytes() for seed in range(8)}
    assert len(pictures) == 8


def test_rendering_leaves_numpys_global_generator_alone() -> None:
    before = np.random.get_state()[1].tolist()
    render(sample_scene(3, 4, LONG_TAIL))
    assert np.random.get_state()[1].tolist() == before


@settings(max_examples=25)
@given(scene=SCENES, material=st.sampled_from(MATERIALS), surface=st.sampled_from(SURFACES))
def test_material_and_surface_leave_the_mask_alone(scene: Scene, material: str, surface: str) -> None:
    other = dataclasses.replace(scene, material=material, surface=surface)
    assert np.array_equal(render(scene).mask, render(other).mask)


@pytest.mark.parametrize("part", PARTS)
def test_material_changes_pixels_only_where_the_part_is(part: str) -> None:
    scene = Scene(part, "steel", "concrete floor", 11)
    drawn, mask = render(scene).image.astype(int), render(scene).mask
    repainted = render(dataclasses.replace(scene, material="red plastic")).image.astype(int)
    changed = np.abs(drawn - repainted).max(axis=2) > 0
    assert changed[mask].mean() > 0.99
    # Beyond the mask only the partly covered pixels of its outline may change.
    assert not changed[~_grown(mask)].any()


@pytest.mark.parametrize("part", PARTS)
def test_surface_changes_pixels_only_outside_the_part(part: str) -> None:
    scene = Scene(part, "steel", "concrete floor", 12)
    drawn, mask = render(scene).image.astype(int), render(scene).mask
    moved = render(dataclasses.replace(scene, surface="green cutting mat")).image.astype(int)
    changed = np.abs(drawn - moved).max(axis=2) > 0
    assert changed[~mask].mean() > 0.99
    # A slit narrower than a pixel, as between a spring's turns, leaves a few inner pixels partly covered.
    assert changed[~_grown(~mask)].mean() < 0.03


@pytest.mark.parametrize(("material", "surface"), list(product(MATERIALS, SURFACES)))
def test_every_material_stands_out_from_every_surface(material: str, surface: str) -> None:
    for seed, part in enumerate(PARTS):
        rendering = render(Scene(part, material, surface, seed))
        shades = rendering.image.astype(float)
        assert _spread(shades[rendering.mask], shades[~_grown(rendering.mask)]) > 0.5, part


@pytest.mark.parametrize("part", PARTS)
def test_area_is_sensible(part: str) -> None:
    low, high = AREA_AT_64[part]
    areas = [render(Scene(part, "steel", "wooden bench", seed)).mask.mean() for seed in range(24)]
    assert low < min(areas)
    assert max(areas) < high


@pytest.mark.parametrize("part", PARTS)
def test_part_stays_inside_the_frame(part: str) -> None:
    """A part cut by the frame would have mask on the border; a touch is allowed, a cut is not."""
    for seed in range(24):
        mask = render(Scene(part, "steel", "wooden bench", seed)).mask
        border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert border.sum() <= 0.05 * mask.sum()


@pytest.mark.parametrize("part", ["washer", "hex nut", "gear"])
def test_bore_is_left_out_of_the_mask(part: str) -> None:
    for seed in range(8):
        mask = render(Scene(part, "brass", "wooden bench", seed)).mask
        rows, columns = np.nonzero(mask)
        assert not mask[round(float(rows.mean())), round(float(columns.mean()))]


@pytest.mark.parametrize("part", PARTS)
def test_larger_pictures_show_the_same_composition(part: str) -> None:
    for seed in range(6):
        scene = Scene(part, "copper", "sheet of white paper", seed)
        small, large = render(scene, 64), render(scene, 128)
        halved = large.mask.reshape(64, 2, 64, 2).mean(axis=(1, 3)) >= 0.5
        assert (halved & small.mask).sum() / (halved | small.mask).sum() > 0.85
        shrunk = large.image.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
        assert np.abs(shrunk - small.image).mean() < 6.0


@pytest.mark.parametrize("surface", SURFACES)
def test_surface_grain_is_weak(surface: str) -> None:
    """A pixel differs little from the mean of its neighbours: a small autoencoder must be able to keep the texture."""
    for seed in range(6):
        rendering = render(Scene("hook", "steel", surface, seed))
        grey = rendering.image.astype(float).mean(axis=2)
        around = (grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]) / 4
        residual = np.abs(grey[1:-1, 1:-1] - around)[~_grown(rendering.mask)[1:-1, 1:-1]]
        assert np.median(residual) / 0.6745 < 3.0


def test_scene_depends_on_seed_and_index_alone() -> None:
    scenes = [sample_scene(index, 7, LONG_TAIL) for index in range(20)]
    assert sample_scene(13, 7, LONG_TAIL) == scenes[13]
    assert sample_scene(13, 8, LONG_TAIL) != scenes[13]
    assert len({scene.seed for scene in scenes}) == 20


def test_weights_move_the_part_only() -> None:
    for index in range(50):
        rare, even = sample_scene(index, 1, LONG_TAIL), sample_scene(index, 1, BALANCED)
        assert dataclasses.replace(rare, part=even.part) == even


def test_one_weight_draws_one_part() -> None:
    assert {sample_scene(index, 2, {"hook": 3.0}).part for index in range(50)} == {"hook"}


def test_long_tail_shares() -> None:
    assert sum(LONG_TAIL.values()) == pytest.approx(1.0)
    assert [LONG_TAIL[part] for part in TAIL_PARTS] == [0.014, 0.004, 0.001, 0.0005]
    assert len({LONG_TAIL[part] for part in HEAD_PARTS}) == 1
    assert set(BALANCED.values()) == {1 / 12}


@pytest.mark.parametrize("weights", [LONG_TAIL, BALANCED])
def test_parts_occur_in_proportion_to_their_weights(weights: dict[str, float]) -> None:
    total = 20_000
    drawn = [sample_scene(index, 5, weights).part for index in range(total)]
    expected = np.array([weights[part] * total for part in PARTS])
    counted = np.array([drawn.count(part) for part in PARTS])
    # 99.9 % point of chi-square with 11 degrees of freedom.
    assert ((counted - expected) ** 2 / expected).sum() < 31.26


def test_materials_and_surfaces_are_uniform() -> None:
    scenes = [sample_scene(index, 6, LONG_TAIL) for index in range(6_000)]
    pairs = [(scene.material, scene.surface) for scene in scenes]
    counted = np.array([pairs.count(pair) for pair in product(MATERIALS, SURFACES)])
    # 99.9 % point of chi-square with 29 degrees of freedom.
    assert ((counted - 200) ** 2 / 200).sum() < 58.30


def test_caption_reads_as_a_sentence() -> None:
    assert caption(Scene("gear", "brass", "wooden bench", 0)) == "a photo of a brass gear on a wooden bench"
    assert not [word for word in (*MATERIALS, *SURFACES) if word[0] in "aeiou"]


def test_captions_tell_all_combinations_apart() -> None:
    captions = {caption(Scene(p, m, s, 0)) for p, m, s in product(PARTS, MATERIALS, SURFACES)}
    assert len(captions) == 12 * 6 * 5


@pytest.mark.parametrize(
    ("field", "value"), [("part", "sprocket"), ("material", "gold"), ("surface", "carpet"), ("seed", -1)]
)
def test_unknown_scene_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value!r}"):
        dataclasses.replace(Scene("gear", "brass", "wooden bench", 0), **{field: value})


@pytest.mark.parametrize("size_px", [0, 15, 1025])
def test_size_out_of_range_is_refused(size_px: int) -> None:
    with pytest.raises(ValueError, match=f"size_px is {size_px}"):
        render(Scene("gear", "brass", "wooden bench", 0), size_px)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"sprocket": 1.0}, "sprocket"),
        ({"gear": -1.0, "bolt": 2.0}, "finite weights"),
        ({"gear": 0.0}, "finite weights"),
        ({"gear": float("nan")}, "finite weights"),
        ({}, "finite weights"),
    ],
)
def test_bad_weights_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_scene(0, 0, weights)


def test_negative_index_is_refused() -> None:
    with pytest.raises(ValueError, match="index is -1"):
        sample_scene(-1, 0, LONG_TAIL)


def _grown(mask: np.ndarray) -> np.ndarray:
    """The mask and the eight neighbours of each of its pixels."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    return np.logical_or.reduce([padded[r : r + height, c : c + width] for r in range(3) for c in range(3)])


def _spread(inside: np.ndarray, outside: np.ndarray) -> float:
    """How far two sets of colours lie apart, means or contrasts, in standard deviations of the outer one."""
    means = np.linalg.norm(inside.mean(axis=0) - outside.mean(axis=0))
    contrast = np.abs(inside.std(axis=0) - outside.std(axis=0)).max()
    return float(max(means, contrast) / np.linalg.norm(outside.std(axis=0)))
