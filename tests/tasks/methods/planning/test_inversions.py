"""Runs of an inversion: whole mixed batches, and places that depend on the concepts alone."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.schemas.jobs import InversionPlace, Prompt, TeacherLabels
from tailforge.schemas.recipe import Recipe, parse_recipe
from tailforge.schemas.settings.inversion import NaturalInversionEngine
from tailforge.tasks.methods.planning.inversions import plan_run, samples_per_run, share_of_batch
from tailforge.tasks.methods.planning.samples import plan_round, plan_slice

SOURCES = ("template:0", "template:1")


def recipe_of(concepts: int, seed: int = 1, **engine: object) -> Recipe:
    data = {
        "name": "tiny",
        "description": "A test.",
        "seed": seed,
        "generator": {"model": "teacher"},
        "engine": {"kind": "natural_inversion", "batch_size": 8, **engine},
        "concepts": [{"name": f"c{number}", "requested": 3} for number in range(concepts)],
    }
    return parse_recipe(data, "test")


def teacher_of(concepts: int, classes: int) -> TeacherLabels:
    return TeacherLabels(classes=classes, labels={f"c{number}": classes - 1 - number for number in range(concepts)})


def prompts_of(concepts: int, sources: tuple[str, ...] = SOURCES[:1]) -> dict[str, list[Prompt]]:
    made = [Prompt(prompt_index=i, source=source, text=f"text {i}", slots=()) for i, source in enumerate(sources)]
    return {f"c{number}": made for number in range(concepts)}


def run(
    concepts: int, classes: int, part: int = 0, attempt: int = 0, seed: int = 1, **engine: object
) -> tuple[InversionPlace, ...]:
    recipe = recipe_of(concepts, seed, **engine)
    assert isinstance(recipe.engine, NaturalInversionEngine)
    teacher = teacher_of(concepts, classes)
    return plan_run(recipe, recipe.engine, teacher, prompts_of(concepts), attempt, SOURCES[0], part)


@pytest.mark.parametrize(
    ("batch", "concepts", "classes", "share"),
    [(64, 12, 12, 5), (64, 10, 10, 6), (256, 10, 10, 25), (64, 2, 10, 16), (64, 12, 1000, 2), (100, 100, 100, 1)],
)
def test_a_batch_is_shared_between_the_classes(batch: int, concepts: int, classes: int, share: int) -> None:
    assert share_of_batch(batch, concepts, classes) == share


@given(concepts=st.integers(1, 8), more=st.integers(0, 12), batches=st.integers(1, 3), part=st.integers(0, 3))
def test_batches_are_whole_and_mixed(concepts: int, more: int, batches: int, part: int) -> None:
    classes = max(2, concepts + more)
    places = run(concepts, classes, part, batches_per_run=batches)
    size = len(places) // batches
    assert size == 8
    for start in range(0, len(places), size):
        batch = places[start : start + size]
        asked = Counter(place.label for place in batch if place.sample_id is not None)
        assert set(asked) == set(teacher_of(concepts, classes).labels.values())
        assert len(set(asked.values())) == 1
        filled = Counter(place.label for place in batch if place.sample_id is None)
        assert max(filled.values(), default=0) - min(filled.values(), default=0) <= 1
        if classes > concepts:
            assert not set(asked) & set(filled)
    assert len({place.seed for place in places}) == len(places)


def test_every_label_of_ten_classes_is_there_as_published() -> None:
    labels = Counter(place.label for place in run(10, 10, batch_size=256))
    assert sorted(labels.values()) == [25] * 4 + [26] * 6


def test_which_other_labels_fill_a_batch_is_drawn_anew_each_time() -> None:
    drawn = {tuple(place.label for place in run(2, 10, part) if place.sample_id is None) for part in range(6)}
    assert {len(labels) for labels in drawn} == {4}
    assert len(drawn) > 3


@given(concepts=st.integers(1, 5), part=st.integers(0, 3), batches=st.integers(1, 2), two=st.booleans())
def test_a_run_holds_just_the_planned_partitions(concepts: int, part: int, batches: int, two: bool) -> None:
    recipe = recipe_of(concepts, batches_per_run=batches)
    assert isinstance(recipe.engine, NaturalInversionEngine)
    teacher, sources = teacher_of(concepts, 6), SOURCES if two else SOURCES[:1]
    prompts = prompts_of(concepts, sources)
    size = samples_per_run(recipe.engine, teacher)
    places = plan_run(recipe, recipe.engine, teacher, prompts, 0, SOURCES[0], part)
    made = {place.sample_id: place for place in places}
    for name, label in teacher.labels.items():
        rounds = plan_round(recipe, prompts[name], (part + 1) * size * len(sources), size)
        numbers = [numbers for source, numbers in rounds if source == SOURCES[0]][part]
        planned = plan_slice(recipe, name, prompts[name], 0, SOURCES[0], numbers)
        assert [made[sample.sample_id].seed for sample in planned] == [sample.seed for sample in planned]
        assert {made[sample.sample_id].label for sample in planned} == {label}


def test_rounds_parts_and_seeds_share_nothing() -> None:
    runs = [run(3, 6), run(3, 6, part=1), run(3, 6, attempt=1), run(3, 6, seed=2)]
    seeds = [place.seed for places in runs for place in places]
    assert len(set(seeds)) == len(seeds)


def test_a_concept_without_prompts_of_the_source_leaves_its_place_to_other_labels() -> None:
    recipe = recipe_of(2)
    assert isinstance(recipe.engine, NaturalInversionEngine)
    prompts = prompts_of(2, SOURCES) | {"c1": prompts_of(1)["c0"]}
    places = plan_run(recipe, recipe.engine, teacher_of(2, 4), prompts, 0, SOURCES[1], 0)
    assert Counter(place.label for place in places if place.sample_id) == {3: 2}
    assert Counter(place.label for place in places) == {0: 2, 1: 2, 2: 2, 3: 2}
