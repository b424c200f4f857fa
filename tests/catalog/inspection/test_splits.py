"""Splits follow blocks: groups and twins stay together, classes keep their shares, and the seed decides alone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.catalog.inspection.groups import join_blocks, match_groups, read_pattern
from tailforge.catalog.inspection.splits import assign_splits, read_splits
from tailforge.schemas.errors import ImagesError


def test_blocks_join_groups_and_sets() -> None:
    groups = ["a", None, "a", None, None, "b"]
    assert join_blocks(6, groups, [(1, 3), (3, 5)]).tolist() == [0, 1, 0, 1, 2, 1]
    assert join_blocks(2, [None, None], []).tolist() == [0, 1]


def test_a_pattern_names_groups_by_file_names() -> None:
    pattern = read_pattern(r"^([^_]+)_")
    assert match_groups(["x/site1_a.png", "y/site1_b.png", "z/c.png"], pattern) == ("site1", "site1", None)
    with pytest.raises(ImagesError, match=r"fits no file name, such as 'c\.png'"):
        match_groups(["z/c.png"], pattern)


@pytest.mark.parametrize(("pattern", "words"), [("(", "is no regular expression"), ("a", "0 groups in parentheses")])
def test_a_useless_pattern_is_refused(pattern: str, words: str) -> None:
    with pytest.raises(ImagesError, match=words):
        read_pattern(pattern)


def test_each_class_is_divided_in_proportion() -> None:
    labels = ["a"] * 100 + ["b"] * 20 + ["c"] * 3
    splits = assign_splits(labels, np.arange(len(labels)), 1)
    found = Counter(zip(labels, splits, strict=True))
    assert [found["a", split] for split in ("train", "validation", "test")] == [80, 10, 10]
    assert [found["b", split] for split in ("train", "validation", "test")] == [16, 2, 2]
    assert found["c", "train"] == 3


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), min_size=1, max_size=80), st.integers(0, 3))
def test_no_block_is_divided_and_the_seed_decides(rows: list[tuple[str, int]], seed: int) -> None:
    labels = [label for label, _ in rows]
    blocks = join_blocks(len(rows), [str(number) for _, number in rows], [])
    splits = assign_splits(labels, blocks, seed)
    assert len(set(zip(blocks.tolist(), splits, strict=True))) == len(set(blocks.tolist()))
    assert "train" in splits
    assert splits == assign_splits(labels, blocks, seed)


@pytest.mark.parametrize("count", range(1, 12))
def test_a_class_of_five_has_a_photograph_in_each_split(count: int) -> None:
    splits = Counter(assign_splits(["a"] * 40 + ["b"] * count, np.arange(40 + count), 1)[40:])
    assert splits["train"] >= max(1, count // 2)
    assert (set(splits) == {"train", "validation", "test"}) == (count >= 5)


def test_another_seed_divides_otherwise() -> None:
    labels = ["a"] * 50
    assert assign_splits(labels, np.arange(50), 1) != assign_splits(labels, np.arange(50), 2)


def test_given_splits_are_read_in_usual_spellings() -> None:
    assert read_splits(["training", "val", "Test"]) == ("train", "validation", "test")
    assert read_splits([None, None]) is None


@pytest.mark.parametrize(("splits", "words"), [(["fold1"], "'fold1', which is none of"), (["test"], "and no train")])
def test_other_splits_are_refused(splits: list[str | None], words: str) -> None:
    with pytest.raises(ImagesError, match=words):
        read_splits(splits)
