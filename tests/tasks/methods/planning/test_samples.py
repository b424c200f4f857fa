"""Planning: identities are stable, rounds only append, partitions never mix concepts or sources."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.schemas.jobs import Prompt, SampleSpec
from tailforge.schemas.recipe import Recipe, parse_recipe
from tailforge.schemas.settings.quality import Quality
from tailforge.tasks.methods.planning.samples import (
    assign_split,
    derive_copy_id,
    derive_seed,
    first_round_size,
    fraction_of,
    identify_sample,
    next_round_size,
    plan_round,
    plan_side_samples,
    plan_slice,
)

PROMPTS = [Prompt(prompt_index=i, source=f"template:{i % 3}", text=f"prompt {i}", slots=()) for i in range(10)]


def recipe(partition_size: int, batch_size: int = 1) -> Recipe:
    return parse_recipe(
        {
            "name": "d",
            "description": "d",
            "seed": 1,
            "concepts": [{"name": "gear", "requested": 3}],
            "generator": {"model": "catalog:workshop"},
            "engine": {"batch_size": batch_size},
            "partition_size": partition_size,
        },
        "test",
    )


def write_round(recipe: Recipe, attempt: int, count: int) -> list[tuple[str, tuple[SampleSpec, ...]]]:
    """The partitions of a round with their samples written out."""
    return [
        (source, plan_slice(recipe, "gear", PROMPTS, attempt, source, numbers))
        for source, numbers in plan_round(recipe, PROMPTS, count)
    ]


@given(count=st.integers(1, 80), more=st.integers(0, 80), size=st.integers(1, 9))
def test_a_longer_round_only_appends(count: int, more: int, size: int) -> None:
    short = write_round(recipe(size), 0, count)
    long = write_round(recipe(size), 0, count + more)
    for source in {source for source, _ in short}:
        before = [spec for s, specs in short if s == source for spec in specs]
        after = [spec for s, specs in long if s == source for spec in specs]
        assert after[: len(before)] == before


@given(count=st.integers(1, 80), size=st.integers(1, 9))
def test_partitions_hold_every_sample_once_and_one_source(count: int, size: int) -> None:
    plan = write_round(recipe(size), 2, count)
    specs = [spec for _, part in plan for spec in part]
    assert len({spec.sample_id for spec in specs}) == len(specs) == count
    assert all(len(part) <= size for _, part in plan)
    for source, part in plan:
        assert {PROMPTS[spec.prompt_index].source for spec in part} == {source}
    assert {(s.prompt_index, s.replica) for s in specs} == {(j % 10, j // 10) for j in range(count)}


@given(count=st.integers(1, 80), more=st.integers(0, 80))
def test_batches_are_whole_and_never_change(count: int, more: int) -> None:
    def batches(total: int) -> set[tuple[str, ...]]:
        parts = [part for _, part in write_round(recipe(8, batch_size=4), 0, total)]
        ids = [[spec.sample_id for spec in part] for part in parts]
        return {tuple(part[start : start + 4]) for part in ids for start in range(0, len(part), 4)}

    assert {len(batch) for batch in batches(count)} == {4}
    assert batches(count) <= batches(count + more)


def test_every_part_of_the_identity_counts() -> None:
    base = ("d", 1, "gear", 2, 3, 4)
    ids = {identify_sample(*base)}
    for position, value in enumerate(("e", 9, "bolt", 9, 9, 9)):
        changed = list(base)
        changed[position] = value
        ids.add(identify_sample(*changed))  # type: ignore[arg-type]
    assert len(ids) == 7
    assert all(len(i) == 16 for i in ids)


def test_identities_are_those_of_versions_already_published() -> None:
    assert identify_sample("d", 1, "gear", 2, 3, 4) == "cb2cf6558ae5a4c1"
    assert derive_copy_id("0123456789abcdef", 1) == "07048929ea272d3d"
    assert derive_seed("0123456789abcdef") == 1748588633834766393
    aside = plan_side_samples(recipe(1), "gear", PROMPTS, "plain", 2)
    assert [sample.sample_id for sample in aside] == ["a05c64c21f8a3a05", "da5fc699c8e72899"]


def test_splits_follow_the_shares_and_the_id_alone() -> None:
    ids = [identify_sample("d", 1, "gear", i, 0, 0) for i in range(4000)]
    splits = [assign_split(i, {"train": 0.8, "test": 0.2}) for i in ids]
    assert abs(splits.count("test") / 4000 - 0.2) < 0.03
    wider = [assign_split(i, {"train": 0.8, "test": 0.1, "validation": 0.1}) for i in ids]
    assert all(w == "train" for w, s in zip(wider, splits, strict=True) if s == "train")
    assert assign_split(ids[0], {"train": 1.0}) == "train"


@given(st.text("0123456789abcdef", min_size=16, max_size=16))
def test_fractions_lie_in_the_unit_interval(sample_id: str) -> None:
    assert 0 <= fraction_of(sample_id, "mix") < 1


def test_round_sizes() -> None:
    assert first_round_size(40, Quality(oversample=1.2)) == 48
    assert first_round_size(41, Quality(oversample=1.2)) == 50
    assert next_round_size(40, 40, 48) == 0
    assert next_round_size(40, 30, 60) == 22  # 10 short at 50 %, and a tenth more
    assert next_round_size(10, 0, 16) == 220  # nothing passed yet: planned at the least rate


@pytest.mark.parametrize(
    ("quality", "size"),
    [
        ({"near_duplicates": None, "gates": "none"}, 40),
        ({"near_duplicates": None}, 80),  # the default gates
        ({"near_duplicates": None, "max_rounds": 1}, 80),  # nothing would replace a failed image
        ({"near_duplicates": None, "gates": {"contrast": {"min": 0.1}}}, 80),
        ({}, 80),
    ],
)
def test_a_first_round_has_a_reserve_only_where_images_can_be_rejected(quality: dict[str, object], size: int) -> None:
    assert first_round_size(40, Quality.model_validate({"oversample": 2.0, **quality})) == size
