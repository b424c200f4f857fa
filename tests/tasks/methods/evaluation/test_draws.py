"""Batches of the arms: shares, pairs between arms, copies and augmentations."""

import numpy as np
import pytest

from tailforge.schemas.evaluation import Arm, Augmentation, EvaluationSettings
from tailforge.tasks.methods.evaluation.arms import list_augmented_arms, list_plain_arms, list_version_arms
from tailforge.tasks.methods.evaluation.augmentations import AugmentedViews, draw_augmentations
from tailforge.tasks.methods.evaluation.draws import plan_draws, repeat_rare
from tailforge.tasks.methods.evaluation.examples import Examples, show_classes

REAL = np.array([0] * 60 + [1] * 30 + [2] * 2)
SYNTHETIC = np.array([2] * 10 + [1] * 5)
RARE, BATCH, STEPS = (2,), 64, 60


def shown(labels: np.ndarray) -> np.ndarray:
    return show_classes(labels, 3)


def rows_of(arm: Arm, seed: int = 0, rare: tuple[int, ...] = RARE) -> np.ndarray:
    rows_at = plan_draws(arm, shown(REAL), shown(SYNTHETIC if arm.source else SYNTHETIC[:0]), rare, BATCH, seed)
    return np.stack([rows_at(step) for step in range(STEPS)])


def mixed(share: float) -> Arm:
    return Arm(name="mixed", source="v", share=share)


def test_balanced_batches_hold_each_class_equally_often() -> None:
    labels = np.concatenate([REAL, SYNTHETIC])[rows_of(Arm(name="balanced"))]
    assert np.bincount(labels.ravel()) / labels.size == pytest.approx(1 / 3, abs=0.03)


def test_the_share_is_that_of_synthetic_images_within_rare_classes() -> None:
    rows = rows_of(mixed(0.75))
    labels = np.concatenate([REAL, SYNTHETIC])[rows]
    synthetic = rows >= len(REAL)
    assert set(labels[synthetic].tolist()) == {2}
    assert synthetic[labels == 2].mean() == pytest.approx(0.75, abs=0.04)


def test_arms_with_one_seed_see_the_same_real_images_where_none_is_replaced() -> None:
    balanced, half, more = rows_of(Arm(name="balanced")), rows_of(mixed(0.5)), rows_of(mixed(0.75))
    for rows in (half, more):
        real = rows < len(REAL)
        assert (rows[real] == balanced[real]).all()
    assert (more[half >= len(REAL)] == half[half >= len(REAL)]).all()  # a larger share replaces the same and more
    assert (rows_of(mixed(0.5), seed=1) != half).any()


def test_a_class_without_real_images_is_drawn_from_the_version_alone() -> None:
    labels = REAL[:90]
    rows_at = plan_draws(mixed(0.25), shown(labels), shown(SYNTHETIC), RARE, BATCH, 0)
    rows = np.stack([rows_at(step) for step in range(STEPS)])
    assert (rows >= len(labels)).mean() == pytest.approx(1 / 3, abs=0.03)


def test_the_version_alone_is_drawn_without_real_images() -> None:
    arm = Arm(name="alone", source="v", real=False)
    rows = rows_of(arm)
    assert set(SYNTHETIC[rows].ravel().tolist()) == {1, 2}


def test_natural_sampling_takes_every_image_once_per_epoch() -> None:
    rows = rows_of(Arm(name="real", sampling="natural")).ravel()
    assert sorted(rows[: len(REAL)].tolist()) == list(range(len(REAL)))


def test_copies_repeat_rare_classes_up_to_the_median_of_the_others() -> None:
    counts = np.bincount(REAL[repeat_rare(shown(REAL), RARE)])
    assert counts.tolist() == [60, 30, 45]
    assert np.bincount(repeat_rare(shown(REAL), RARE)).min() == 1  # every image stays


def test_the_search_draws_different_augmentations_again_and_again() -> None:
    found = draw_augmentations(6, 3)
    assert len({each.model_dump_json() for each in found}) == 6
    assert Augmentation() not in found
    assert draw_augmentations(6, 3) == found
    assert draw_augmentations(6, 4) != found


@pytest.mark.parametrize("channels", [1, 3])
def test_views_keep_shape_and_repeat_themselves(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 18, 20, channels), np.uint8)
    strong = Augmentation(padding=3, flip=True, flip_vertical=True, contrast=0.3, noise=0.05, erase=0.4)
    batch = Examples(images, np.zeros(3, np.int64), 2)
    views = AugmentedViews(18, 20, strong)
    drawn = views.draw(batch, 5, 1).images
    assert drawn.shape == images.shape
    assert (drawn != images).any()
    assert (AugmentedViews(18, 20, strong).draw(batch, 5, 1).images == drawn).all()
    assert (views.draw(batch, 5, 2).images != drawn).any()
    assert (AugmentedViews(18, 20, Augmentation(padding=0)).draw(batch, 0, 0).images == images).all()


def test_every_share_and_rival_is_an_arm_of_its_own() -> None:
    settings = EvaluationSettings(shares=(0.25, 0.5), augmentations=3)
    arms = list_version_arms(settings, "v@1.0.0", ["w@1.0.0"], Augmentation(padding=1, flip=True))
    assert [(arm.name, arm.setting) for arm in arms] == [
        ("mixed", "share 0.25, padding 1, flip True"),
        ("mixed", "share 0.5, padding 1, flip True"),
        ("alone", "padding 1, flip True"),
        ("against w@1.0.0", "share 0.25, padding 1, flip True"),
        ("against w@1.0.0", "share 0.5, padding 1, flip True"),
    ]
    assert list_version_arms(settings, "v@1.0.0", [], Augmentation())[0].setting == "share 0.25"


def test_the_search_compares_random_augmentations_with_the_default_one() -> None:
    arms = list_augmented_arms(EvaluationSettings(augmentations=3))
    assert [arm.name for arm in arms] == ["augmented"] * 4
    assert len({arm.setting for arm in arms}) == 4
    assert arms[0].augmentation == Augmentation()
    assert [arm.name for arm in list_plain_arms()] == ["real", "balanced", "copies"]
