"""Prompt expansion: spans, balance, independence of templates and concepts, language-model texts."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import Prompt
from tailforge.schemas.recipe import Recipe, parse_recipe
from tailforge.tasks.methods.planning.expand_prompts import (
    collect_words,
    expand_prompts,
    fill_template,
    indefinite_article,
)

MATERIALS = ["steel", "brass", "copper", "aluminium", "red plastic", "black rubber"]
SURFACES = ["a wooden bench", "a green mat", "a concrete floor", "paper", "an iron plate"]


def make_recipe(prompts: dict[str, Any] | None = None, *concepts: dict[str, Any], seed: int = 5) -> Recipe:
    data = {
        "name": "parts",
        "description": "parts",
        "seed": seed,
        "generator": {"model": "somewhere"},
        "concepts": [{"requested": 10, **concept} for concept in concepts or ({"name": "gear"},)],
        "prompts": {"attributes": {"material": MATERIALS, "surface": SURFACES}, **(prompts or {})},
    }
    return parse_recipe(data, "test")


def expand(recipe: Recipe, concept: int = 0, **given: Any) -> list[Prompt]:
    return expand_prompts(recipe, recipe.concepts[concept], **given)


def values(prompts: Sequence[Prompt], slot: str) -> Counter[str]:
    return Counter(found.value for prompt in prompts for found in prompt.slots if found.name == slot)


WORDS = st.text("aeiou bcxyzäß-", min_size=1, max_size=8).filter(str.strip)
LITERALS = st.text("a photo,. of", max_size=6)


@st.composite
def templates(draw: st.DrawFn) -> str:
    slots = draw(st.permutations(["{concept}", *draw(st.lists(st.sampled_from(["{a}", "{material}", "{concept}"])))]))
    return draw(LITERALS) + "".join(slot + draw(LITERALS) for slot in slots)


@given(template=templates(), concept=WORDS, material=WORDS)
def test_spans_hold_exactly_the_slot_values(template: str, concept: str, material: str) -> None:
    text, slots = fill_template(template, {"concept": concept, "material": material})
    assert [slot.name for slot in slots] == [
        part.split("}")[0] for part in template.split("{")[1:] if not part.startswith("a}")
    ]
    end = 0
    for slot in slots:
        assert text[slot.start : slot.end] == slot.value == {"concept": concept, "material": material}[slot.name]
        assert slot.start >= end
        end = slot.end


@pytest.mark.parametrize(
    ("text", "article"),
    [
        (" gear", "a"), (" iron gear", "an"), (" hour glass", "an"), (" unit", "a"), (" uninteresting bolt", "an"),
        (" useful hook", "a"), (" one-way valve", "a"), (" M8 bolt", "an"), (" U-bolt", "a"), (" L bracket", "an"),
        (' "old" wrench', "an"), (" 8-mm nut", "an"), (" Hook", "a"), ("", "a"), (" European plug", "a"),
    ],
)  # fmt: skip
def test_article_follows_the_next_word(text: str, article: str) -> None:
    assert indefinite_article(text) == article


def test_article_looks_into_the_next_slot() -> None:
    assert fill_template("{a} {material} {concept}", {"material": "iron", "concept": "hook"})[0] == "an iron hook"


def test_every_value_occurs_equally_often_at_every_length() -> None:
    two = ["a photo of {a} {material} {concept} on {surface}", "{concept}, {material}, {surface}"]
    prompts = expand(make_recipe({"templates": two, "per_concept": 60}, {"name": "gear", "synonyms": ["cog wheel"]}))
    assert len(prompts) == 60
    for length in range(1, 61):
        some = prompts[:length]
        for counts, size in (
            (values(some, "concept"), 2),
            (values(some, "material"), 6),
            (values(some, "surface"), 5),
            (Counter(prompt.source for prompt in some), 2),
        ):
            assert max(counts.values()) - (min(counts.values()) if len(counts) == size else 0) <= 1
    pairs = Counter((p.slots[1].value, p.slots[2].value) for p in prompts if p.source == "template:1")
    assert max(pairs.values()) <= 2


def test_weights_decide_how_often() -> None:
    recipe = make_recipe(
        {
            "attributes": {"material": {"steel": 6, "brass": 3, "copper": 1}, "number": [str(i) for i in range(90)]},
            "templates": ["{a} {material} {concept} number {number}"],
            "per_concept": 60,
            "balance": "weighted",
        }
    )
    assert values(expand(recipe), "material") == {"steel": 36, "brass": 18, "copper": 6}


def test_balanced_ignores_weights() -> None:
    recipe = make_recipe(
        {
            "attributes": {"material": {"steel": 6, "brass": 3, "copper": 1}, "number": [str(i) for i in range(90)]},
            "templates": ["{a} {material} {concept} number {number}"],
            "per_concept": 60,
        }
    )
    assert set(values(expand(recipe), "material").values()) == {20}


def test_all_combinations_come_when_there_is_room() -> None:
    prompts = expand(make_recipe({"templates": ["{material} {concept} {surface}"], "per_concept": 1000}))
    assert len(prompts) == len({prompt.text for prompt in prompts}) == 30


@given(per_concept=st.integers(1, 40), seed=st.integers(0, 50))
@settings(max_examples=25)
def test_prompts_are_distinct_numbered_and_bounded(per_concept: int, seed: int) -> None:
    recipe = make_recipe(
        {"templates": ["{concept}", "{a} {concept}  ", "{material} {concept}", "{concept} on {surface}"],
         "per_concept": per_concept}, {"name": "gear", "synonyms": ["Gear", "cog"]}, seed=seed,
    )  # fmt: skip
    prompts = expand(recipe)
    assert prompts == expand(recipe)
    texts = [" ".join(prompt.text.lower().split()) for prompt in prompts]
    indices = [prompt.prompt_index for prompt in prompts]
    assert len(set(texts)) == len(texts)
    assert indices == sorted(set(indices))
    assert all(0 <= index < per_concept for index in indices)
    for prompt in prompts:
        assert prompt.source == f"template:{prompt.prompt_index % 4}"
        assert all(prompt.text[slot.start : slot.end] == slot.value for slot in prompt.slots)


@pytest.mark.parametrize(
    "wording", ["{concept}", "one {concept} alone", "{material} {material} {concept}", "{surface} and {concept}"]
)
def test_a_changed_template_leaves_the_others_as_they_are(wording: str) -> None:
    others = ["a photo of {a} {material} {concept} on {surface}", "{a} {concept} made of {material}"]
    before = expand(make_recipe({"templates": [others[0], "close-up of {a} {material} {concept}", others[1]]}))
    after = expand(make_recipe({"templates": [others[0], wording, others[1]]}))
    kept = [[p for p in prompts if p.source != "template:1"] for prompts in (before, after)]
    assert kept[0] == kept[1]
    assert before != after


def test_a_synonym_of_one_concept_leaves_the_others_as_they_are() -> None:
    before = make_recipe(None, {"name": "gear"}, {"name": "hook"})
    after = make_recipe(None, {"name": "gear", "synonyms": ["cog"]}, {"name": "hook"})
    assert expand(before, 1) == expand(after, 1)
    assert expand(before, 0) != expand(after, 0)


def test_seed_and_concept_decide_the_order() -> None:
    prompts = {"templates": ["{material} {surface} {concept}"], "per_concept": 10}
    order = [[p.slots[0].value for p in expand(make_recipe(prompts, {"name": name}, seed=seed))]
             for name, seed in (("gear", 1), ("gear", 2), ("hook", 1))]  # fmt: skip
    assert order[0] != order[1]
    assert order[0] != order[2]


def test_words_come_from_name_synonyms_recipe_and_lexicon() -> None:
    recipe = make_recipe(
        {"lexicon": {"Gear": ["toothed  wheel", "cog"]}}, {"name": "gear", "synonyms": ["cog", "GEAR"]}
    )
    asked = []

    def lexicon(word: str) -> list[str]:
        asked.append(word)
        return ["gearwheel", "Cog"]

    assert collect_words(recipe, recipe.concepts[0], lexicon) == ["gear", "cog", "toothed wheel", "gearwheel"]
    assert asked == ["gear"]


def test_own_templates_replace_those_of_the_recipe() -> None:
    recipe = make_recipe(
        {"templates": ["{concept} of all"]}, {"name": "gear", "templates": ["my {concept}"]}, {"name": "hook"}
    )
    assert [p.text for p in expand(recipe, 0)] == ["my gear"]
    assert [p.text for p in expand(recipe, 1)] == ["hook of all"]


LANGUAGE_MODEL = {"source": {"model": "somewhere"}, "count": 6}


def test_language_model_texts_are_cut_checked_and_measured() -> None:
    written = [
        ' "A gear on a bench. Another sentence',
        "1. A Gear 3.5 mm wide!\nmore",
        "gears and gearing only",
        "\n\n  - the cog  wheel shines",
        "a GEAR on a bench",
        "",
    ]
    calls = []

    def complete(text: str, count: int, seed: int) -> list[str]:
        calls.append((text, count, seed))
        return written

    recipe = make_recipe(
        {"templates": ["a {concept} on a bench"], "language_model": LANGUAGE_MODEL},
        {"name": "gear", "synonyms": ["cog wheel"]},
    )
    prompts = expand(recipe, complete=complete)
    by_model = [p for p in prompts if p.source == "language_model"]
    assert [p.text for p in by_model] == ["A Gear 3.5 mm wide", "the cog wheel shines"]  # the first repeats template 0
    assert [p.slots[0].value for p in by_model] == ["Gear", "cog wheel"]
    assert all(p.text[p.slots[0].start : p.slots[0].end] == p.slots[0].value for p in by_model)
    assert [p.prompt_index % 2 for p in by_model] == [1, 1]
    assert calls[0][:2] == ("A photo caption about gear:", 6)
    assert calls == [calls[0]]


def test_language_model_alone_that_loses_the_word_leaves_no_prompt() -> None:
    recipe = make_recipe({"language_model": LANGUAGE_MODEL}, {"name": "gear", "templates": []})
    assert [p.text for p in expand(recipe, complete=lambda *_: ["one gear"])] == ["one gear"]
    with pytest.raises(RecipeError, match=r"concept 'gear' has no prompts.*gear"):
        expand(recipe, complete=lambda *_: ["nothing of the kind"])


def test_no_template_and_no_language_model_is_refused() -> None:
    with pytest.raises(RecipeError, match="'gear' has no prompts"):
        expand(make_recipe(None, {"name": "gear", "templates": []}))


@pytest.mark.parametrize(
    ("attributes", "message"), [({"a": ["x"]}, "'a'"), ({"concept": ["x"]}, "'concept'"), ({"size": []}, "no values")]
)
def test_unusable_attributes_are_refused(attributes: dict[str, list[str]], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_recipe({"attributes": attributes})


def test_fewer_prompts_than_templates_use_the_first_templates() -> None:
    prompts = expand(make_recipe({"templates": ["{concept} 1", "{concept} 2", "{concept} 3"], "per_concept": 2}))
    assert [p.text for p in prompts] == ["gear 1", "gear 2"]


def test_large_expansions_are_complete() -> None:
    recipe = make_recipe({"attributes": {"n": [str(i) for i in range(100)], "m": [str(i) for i in range(50)]},
                          "templates": ["{concept} {n} {m}"], "per_concept": 3000})  # fmt: skip
    assert len(expand(recipe)) == 3000
