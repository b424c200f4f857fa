"""Augmentation: image and masks move together, everything follows from the seed, and unfit recipes are named."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.settings.output import Augmentation
from tailforge.tasks.methods.masks.codec import describe_instance
from tailforge.tasks.methods.masks.concept_region import measure_concept
from tailforge.tasks.methods.packing.augment import augment, augment_instances, build_pipeline, instance_regions
from tailforge.tasks.methods.workshop import BALANCED, render, sample_scene

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # pycocotools with numpy 2

SCENE = render(sample_scene(3, 7, BALANCED))
MASK = SCENE.mask.astype(np.uint8) * 4

# One of each kind that recipes are likely to use; the parameters are far from the identity.
LIKELY: dict[str, dict[str, Any]] = {
    "GaussNoise": {"std_range": [0.1, 0.2]}, "ISONoise": {}, "ShotNoise": {}, "MotionBlur": {}, "GaussianBlur": {},
    "Defocus": {}, "ImageCompression": {"quality_range": [20, 40]}, "Downscale": {}, "RandomBrightnessContrast": {},
    "ColorJitter": {}, "RandomGamma": {}, "CLAHE": {}, "RandomShadow": {}, "RandomFog": {}, "PlanckianJitter": {},
    "ToGray": {}, "HorizontalFlip": {}, "D4": {}, "Rotate": {}, "Affine": {"scale": [0.7, 1.3], "shear": [-10, 10]},
    "Perspective": {}, "ElasticTransform": {"alpha": 30}, "GridDistortion": {}, "OpticalDistortion": {},
    "RandomResizedCrop": {"size": [48, 40]}, "CropNonEmptyMaskIfExists": {"height": 32, "width": 32},
    "CoarseDropout": {}, "PadIfNeeded": {"min_height": 80, "min_width": 80}, "Resize": {"height": 32, "width": 48},
}  # fmt: skip
GEOMETRY = ("HorizontalFlip", "VerticalFlip", "D4", "Transpose", "RandomRotate90")


def pipeline(*transforms: tuple[str, dict[str, Any]], copies: int = 0) -> Any:
    listed = [{"name": name, "parameters": parameters} for name, parameters in transforms]
    return build_pipeline(Augmentation.model_validate({"transforms": listed, "copies": copies}))


@pytest.mark.parametrize("name", LIKELY)
def test_the_seed_alone_decides(name: str) -> None:
    used = pipeline((name, {**LIKELY[name], "p": 1.0}))
    first = augment(used, SCENE.image, MASK, 5, [SCENE.mask])
    augment(used, SCENE.image[:, ::-1].copy(), MASK, 6)
    np.random.seed(0)
    for again in (used, pipeline((name, {**LIKELY[name], "p": 1.0}))):
        made = augment(again, SCENE.image, MASK, 5, [SCENE.mask])
        assert (made.image == first.image).all()
        assert (made.mask == first.mask).all()
        assert made.replay == first.replay
    assert json.loads(json.dumps(first.replay, allow_nan=False)) == first.replay
    assert first.replay["transforms"][0]["name"] == name
    assert first.replay["transforms"][0]["applied"]
    assert len(json.dumps(first.replay)) < 3000


@pytest.mark.parametrize("name", LIKELY)
def test_masks_keep_their_values_and_go_together(name: str) -> None:
    made = augment(pipeline((name, {**LIKELY[name], "p": 1.0})), SCENE.image, MASK, 5, [SCENE.mask, ~SCENE.mask])
    assert made.image.dtype == made.mask.dtype == np.uint8
    assert made.image.shape == (*made.mask.shape, 3)
    assert set(np.unique(made.mask)) <= {0, 4}
    assert ((made.mask == 4) == made.regions[0]).all()
    assert not (made.regions[0] & made.regions[1]).any()


@given(seed=st.integers(0, 2**63 - 1), names=st.lists(st.sampled_from(GEOMETRY), min_size=1, max_size=3))
@settings(max_examples=40)
def test_geometry_is_the_same_for_image_and_mask(seed: int, names: list[str]) -> None:
    image = np.where(SCENE.mask[..., None], 255, 0).repeat(3, axis=2).astype(np.uint8)
    made = augment(pipeline(*((name, {"p": 0.7}) for name in names)), image, MASK, seed, [SCENE.mask])
    assert ((made.image[..., 0] == 255) == (made.mask == 4)).all()
    assert ((made.mask == 4) == made.regions[0]).all()


@given(seed=st.integers(0, 2**63 - 1))
@settings(max_examples=25)
def test_warps_without_interpolation_move_image_and_mask_alike(seed: int) -> None:
    image = np.where(SCENE.mask[..., None], 255, 0).repeat(3, axis=2).astype(np.uint8)
    warps = pipeline(
        ("Rotate", {"interpolation": 0, "p": 1.0}), ("Affine", {"interpolation": 0, "scale": [0.6, 1.4], "p": 1.0})
    )
    made = augment(warps, image, MASK, seed)
    assert ((made.image[..., 0] == 255) == (made.mask == 4)).all()


def test_photometric_transforms_leave_the_mask_alone() -> None:
    made = augment(pipeline(("GaussNoise", {"p": 1.0})), SCENE.image, MASK, 1)
    assert (made.mask == MASK).all()
    assert (made.image != SCENE.image).any()


def test_seeds_draw_different_things_and_transforms_are_not_coupled() -> None:
    twice = pipeline(("Rotate", {"limit": 80, "p": 1.0}), ("Rotate", {"limit": 80, "p": 1.0}))
    drawn = [augment(twice, SCENE.image, MASK, seed).replay["transforms"] for seed in range(8)]
    first, second = ([entry[place]["parameters"]["matrix"] for entry in drawn] for place in (0, 1))
    assert len({json.dumps(matrix) for matrix in first}) == 8
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_a_transform_that_was_not_drawn_is_recorded_so() -> None:
    made = augment(pipeline(("HorizontalFlip", {"p": 0.0})), SCENE.image, MASK, 1)
    assert made.replay["transforms"] == [{"name": "HorizontalFlip", "applied": False, "parameters": {}}]
    assert (made.image == SCENE.image).all()


def test_instances_follow_their_regions_and_vanish_outside() -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[2:6, 3:5], mask[12:, 12:] = 1, 2
    instances = [describe_instance(mask == 1, 1, "gear", 0.5), describe_instance(mask == 2, 2, "hook", 0.25)]
    cut = pipeline(("Crop", {"x_max": 10, "y_max": 10, "p": 1.0}), ("HorizontalFlip", {"p": 1.0}))
    made = augment(cut, np.zeros((16, 16, 3), np.uint8), mask, 1, instance_regions(instances, mask))
    (gear,) = augment_instances(instances, made.regions)
    assert gear == describe_instance(made.mask == 1, 1, "gear", 0.5)
    assert gear["bbox"] == [5.0, 2.0, 2.0, 4.0]
    assert measure_concept([gear], *made.mask.shape)["mask_area"] == 8 / 100


def test_ignored_pixels_stay_ignored() -> None:
    mask = np.full((8, 8), 255, np.uint8)
    mask[:4] = 3
    made = augment(pipeline(("VerticalFlip", {"p": 1.0})), np.zeros((8, 8, 3), np.uint8), mask, 1)
    assert (made.mask[:4] == 255).all()


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("GaussNoize", {}, "'GaussNoize' is not a transform"),
        ("Compose", {}, "'Compose' is not a transform"),
        ("BasicTransform", {}, "is not a transform"),
        ("DualTransform", {}, "is not a transform"),
        ("ToTensorV2", {}, "is not a transform"),
        ("GaussNoise", {"var_limit": 3}, "GaussNoise has no parameter 'var_limit'.*std_range"),
        ("Rotate", {"mask_interpolation": 1}, "'mask_interpolation'"),
        ("GaussNoise", {"std_range": [2, 3]}, "GaussNoise refuses them"),
        ("GaussNoise", {"p": 1.5}, "GaussNoise refuses them"),
        ("RandomCrop", {}, "RandomCrop refuses them"),
        ("Lambda", {}, "Lambda needs more"),
        ("TextImage", {"font_path": "/etc/passwd"}, "TextImage needs more"),
        ("BBoxSafeRandomCrop", {}, "BBoxSafeRandomCrop needs more"),
        ("CoarseDropout3D", {}, "CoarseDropout3D needs more"),
        ("Mosaic", {}, "Mosaic needs more"),
    ],
)
def test_unfit_transforms_are_named(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=rf"augmentation\.transforms\.1.*{message}"):
        pipeline(("HorizontalFlip", {}), (name, parameters))


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (("RandomCrop", {"height": 100, "width": 100, "p": 1.0}), "cannot process an image of 64 x 64"),
        (("Normalize", {"p": 1.0}), "float32"),
        (("ToGray", {"num_output_channels": 1, "p": 1.0}), "8-bit RGB"),
        (("Affine", {"translate_percent": 0.5, "fill_mask": 9, "p": 1.0}), r"classes \[9\]"),
    ],
)
def test_unfit_outcomes_are_refused(transform: tuple[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        augment(pipeline(transform), SCENE.image, MASK, 1)
