"""Which images and texts a step of a training sees."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.tasks.methods.generator_training.batches import EpochSampler, Examples, draw_by_class, draw_by_root


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), batch=st.integers(1, 7), seed=st.integers(0, 9))
def test_classes_are_drawn_equally_often_and_so_are_the_images_of_a_class(
    sizes: list[int], batch: int, seed: int
) -> None:
    ends = np.cumsum(sizes)
    groups = [np.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    rounds = 60  # whole epochs of every size up to 5, over all classes
    drawn = np.concatenate([draw_by_class(groups, batch, seed, step) for step in range(rounds * len(sizes))])
    drawn = drawn[: rounds * len(sizes)]
    assert [np.isin(drawn, own).sum() for own in groups] == [rounds] * len(sizes)
    for own, size in zip(groups, sizes, strict=True):
        assert set(Counter(drawn[np.isin(drawn, own)].tolist()).values()) == {rounds // size}


@pytest.mark.parametrize("balanced", [True, False])
def test_a_rare_class_is_learnt_as_often_as_the_others_if_classes_are_balanced(balanced: bool) -> None:
    names = ["common"] * 30 + ["rare", "rare"] + [None] * 8
    examples = Examples(np.zeros((40, 1, 2, 2), np.float32), [f"caption {n}" for n in range(40)], np.arange(40), names)
    groups = tuple(examples.by_class().values())
    assert [len(own) for own in groups] == [30, 2, 8]
    sampler = EpochSampler(examples, 8, 0.0, 1, groups if balanced else ())
    seen = Counter(names[row] for step in range(15) for row in sampler.draw(step).rows)
    expected = {"common": 40, "rare": 40, None: 40} if balanced else {"common": 90, "rare": 6, None: 24}
    assert seen == expected
    assert sampler.draw(3).texts == [f"caption {row}" for row in sampler.draw(3).rows]


def test_a_class_is_learnt_as_often_as_the_root_of_its_images() -> None:
    groups = [np.arange(100), np.arange(100, 104)]
    drawn = np.concatenate([draw_by_root(groups, 50, 1, step) for step in range(200)])
    shares = [np.isin(drawn, own).mean() for own in groups]
    np.testing.assert_allclose(shares, [10 / 12, 2 / 12], atol=0.015)
    assert set(drawn.tolist()) == set(range(104))
    np.testing.assert_array_equal(draw_by_root(groups, 50, 1, 7), draw_by_root(groups, 50, 1, 7))


def test_examples_without_classes_have_no_groups() -> None:
    examples = Examples(np.zeros((2, 1, 2, 2), np.float32), ["a", "b"], np.arange(2))
    assert examples.by_class() == {}
