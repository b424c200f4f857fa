"""What is wrong with a recipe is said by the keys as they were written, all at once, without pydantic's words."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tailforge.catalog.sources.recipes import load_recipe, load_training_recipe
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.recipe import parse_recipe
from tests.support.tiny_training import tiny_recipe

GOOD: dict[str, Any] = {
    "name": "small",
    "description": "A test.",
    "seed": 1,
    "concepts": [{"name": "gear", "requested": 3}],
    "generator": {"model": "catalog:workshop"},
}


def mistakes(**changes: Any) -> list[str]:
    """Lines of the error for a changed recipe: one beside the recipe's name, or several below it."""
    with pytest.raises(RecipeError) as raised:
        parse_recipe(GOOD | changes, "small.yaml")
    first, *lines = str(raised.value).split("\n")
    if not lines:
        return [first.removeprefix("small.yaml: ")]
    assert first == f"small.yaml: {len(lines)} mistakes:"
    return [line.removeprefix("  ") for line in lines]


def test_a_single_mistake_stands_beside_the_name_of_its_recipe() -> None:
    with pytest.raises(RecipeError, match=r"^small\.yaml: seed: must be a whole number; found 1\.5$"):
        parse_recipe(GOOD | {"seed": 1.5}, "small.yaml")


def test_unknown_keys_have_a_suggestion_and_the_known_ones() -> None:
    assert mistakes(quality={"scorer": {"model": "x", "folder": "clip"}}, sharding={"hue": 1}) == [
        "quality.scorer.folder: unknown key; did you mean 'subfolder'? Known: model, revision, subfolder",
        "sharding.hue: unknown key. Known: max_samples, max_bytes, image_format, jpeg_quality, attention, noise, "
        "references",
    ]


def test_true_and_false_are_no_numbers_wherever_they_stand() -> None:
    assert mistakes(
        seed=True,
        concepts=[{"name": "gear", "requested": True}],
        engine={"kind": "plain", "guidance": False},
        splits={"train": True},
        quality={"gates": {"brightness": {"max": True}}},
    ) == [
        "seed: must be a number; found true",
        "concepts.0.requested: must be a number; found true",
        "engine.guidance: must be a number; found false",
        "splits.train: must be a number; found true",
        "quality.gates.brightness.max: must be a number; found true",
    ]


@pytest.mark.parametrize(
    ("content", "found"), [(None, "nothing"), (["name"], "a list of 1"), ("gears", "'gears'"), (3, "3")]
)
def test_a_recipe_that_is_no_mapping_is_named_in_the_words_of_yaml(content: object, found: str) -> None:
    with pytest.raises(RecipeError, match=f"^small.yaml: a recipe is a mapping of keys to values; found {found}, "):
        parse_recipe(content, "small.yaml")


def test_a_long_section_is_listed_only_without_a_suggestion() -> None:
    near, far = mistakes(engine={"kind": "seed_select", "candidatez": 1, "hue": 1})
    assert near == "engine.candidatez: unknown key; did you mean 'candidates'?"
    assert far.startswith("engine.hue: unknown key. Known: steps, guidance, scheduler,")


def test_a_key_of_another_engine_is_recognised() -> None:
    (line,) = mistakes(engine={"candidates": 3})
    assert line.endswith("negative_prompt, kind, guide. It is a key of kind best_of_n, zero_order, seed_select")


def test_keys_are_those_of_the_kind_that_was_chosen() -> None:
    teacher = {"model": "x", "module": "package:build", "meen": [0.5]}
    assert mistakes(generator=teacher) == [
        "generator.meen: unknown key; did you mean 'mean'? Known: model, revision, subfolder, module, mean, std, size, "
        "class_names"
    ]


def test_keys_of_a_mapping_are_named_as_keys() -> None:
    assert mistakes(splits={"trian": 1.0}, prompts={"attributes": {"Place": ["a"]}}) == [
        "splits.trian: unknown key; did you mean 'train'? Known: train, validation, test",
        "prompts.attributes.Place: this key must have the form ^[a-z_]+$; found 'Place'",
    ]


def test_members_of_a_union_share_a_line() -> None:
    assert mistakes(annotation={"threshold": "otzu"}, prompts={"attributes": {"place": {"bench": 0}}}) == [
        "prompts.attributes.place.bench: must be above 0; found 0",
        "annotation.threshold: must be 'otsu' or 'concept', or must be a number; found 'otzu'; did you mean 'otsu'?",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"concepts": [{"name": "gear"}]}, "concepts.0.requested: is missing; add it"),
        ({"concepts": 3}, "concepts: must be a list; found 3"),
        ({"engine": 3}, "engine: must be a mapping of keys to values; found 3"),
        ({"sharding": None}, "sharding: must be a mapping of keys to values; found nothing"),
        (
            {"description": True},
            "description: must be text, in quotes if it looks like a number; found true",
        ),
        ({"seed": 1.5}, "seed: must be a whole number; found 1.5"),
        ({"description": "x" * 2000}, f"description: must have 1000 characters at most; found '{'x' * 76}..."),
        ({"prompts": {"wordnet": "maybe"}}, "prompts.wordnet: must be true or false; found 'maybe'"),
        ({"engine": {"height": 100}}, "engine.height: must be a multiple of 8; found 100"),
        ({"engine": {"guidance": 51}}, "engine.guidance: must be 50 or less; found 51"),
        (
            {"engine": {"scheduler": "eular"}},
            "engine.scheduler: must be 'model', 'ddim', 'dpmsolver++', 'euler' or 'unipc'; found 'eular'; did you mean "
            "'euler'?",
        ),
        (
            {"engine": "seed_selct"},
            "engine.kind: must be one of plain, best_of_n, zero_order, seed_select, natural_inversion, inpaint, "
            "copy_paste, cut_paste, noise_texture; found 'seed_selct'; did you mean 'seed_select'?",
        ),
        (
            {"name": "My set"},
            "name: must have the form ^[a-z0-9][a-z0-9_-]{0,63}$ (Dataset name: lower case letters, digits, - and _); "
            "found 'My set'",
        ),
        ({"splits": {"train": 0.5}}, "splits: shares sum to 0.5; they must sum to 1"),
        ({"prompts": {"templates": ["a photo"]}}, "template 'a photo' has no {concept} slot"),
    ],
)
def test_one_mistake_is_one_line(changes: dict[str, Any], expected: str) -> None:
    assert mistakes(**changes) == [expected]


def place(path: Path, word: str) -> str:
    """Line and column of a word that occurs once in a file."""
    before, _, _ = path.read_text().partition(word)
    return f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"


RECIPE = """\
name: small
description: A test.
seed: 1.5
concepts:
  - {name: gear, requested: 3}
  - name: hex nut
    requestd: 4
engine: {kind: plain, guidance: none}
generator: {model: "catalog:workshop"}
prompts: {lexicon: {"hex nut": 7}}
"""


def test_mistakes_in_a_file_have_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    with pytest.raises(RecipeError) as raised:
        load_recipe(str(path))
    assert [line.partition(": ")[::2] for line in str(raised.value).split("\n  ")[1:]] == [
        ("line 3, column 1", "seed: must be a whole number; found 1.5"),
        ("line 6, column 5", "concepts.1.requested: is missing; add it"),
        ("line 7, column 5", "concepts.1.requestd: unknown key; did you mean 'requested'? Known: name, requested, "
         "synonyms, templates, references"),
        ("line 10, column 21", "prompts.lexicon.hex nut: must be a list; found 7"),
        ("line 8, column 23", "engine.guidance: must be a number; found 'none'"),
    ]  # fmt: skip


def test_rules_across_keys_and_settings_without_effect_have_the_place_of_the_key_they_name(tmp_path: Path) -> None:
    path, good = tmp_path / "small.yaml", RECIPE.replace("1.5", "1").replace("requestd", "requested")
    good = good.replace("none", "1").replace("7", "[nut]")
    path.write_text(good + "sharding:\n  noise: true\n")
    with pytest.raises(RecipeError, match=r"small\.yaml: line 12, column 3: sharding\.noise ships"):
        load_recipe(str(path))
    path.write_text(good.replace("guidance: 1", "guidance: 1, guide: {model: guide}"))
    with pytest.raises(RecipeError, match=r"small\.yaml: line 8, column 36: engine\.guide has no effect"):
        load_recipe(str(path))


def test_values_of_overrides_have_no_line(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    for override in ("seed=x", "concepts.gear.requested=x", "concepts=x"):
        with pytest.raises(RecipeError, match=r"small\.yaml: (seed|concepts[.\w]*): must be"):
            load_recipe(str(path), [override])


def test_a_training_recipe_speaks_the_same_way(tmp_path: Path) -> None:
    path, content = tmp_path / "train.yaml", tiny_recipe()
    content["judges"]["bach"] = 2
    content["diffusion"]["phases"][0]["stps"] = 2
    del content["seed"]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(RecipeError) as raised:
        load_training_recipe(path)
    first, seed, phase, judges = str(raised.value).split("\n  ")
    assert first == f"training recipe {path}: 3 mistakes:"
    assert seed == "seed: is missing; add it"
    known = "diffusion.phases.0.stps: unknown key; did you mean 'steps'? Known: steps, learning_rate,"
    assert phase.startswith(f"{place(path, 'stps')}: {known}")
    known = "judges.bach: unknown key; did you mean 'batch'? Known: classifier_steps,"
    assert judges.startswith(f"{place(path, 'bach')}: {known}")


def test_a_key_of_other_pictures_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "teacher.yaml"
    path.write_text(
        "{kind: teacher, name: t, size_px: 32, pictures: {kind: images, seed: 1},"
        " model: {architecture: resnet, widths: [8], depths: [1]}, training: {steps: 1}}"
    )
    with pytest.raises(
        RecipeError, match=r"pictures\.seed: unknown key\. Known: kind, path, root, fit\. It is a key of kind workshop"
    ):
        load_training_recipe(path)


@pytest.mark.timeout(120)
def test_ten_mistakes_are_shown_and_the_rest_is_counted() -> None:
    with pytest.raises(RecipeError) as raised:
        parse_recipe(GOOD | {f"k{number}": number for number in range(20_000)}, "small.yaml")
    lines = str(raised.value).split("\n")
    assert lines[0] == "small.yaml: 20,000 mistakes:"
    assert lines[1].startswith("  k0: unknown key")
    assert lines[-1] == "  ... and 19,990 more"
    assert len(lines) == 12


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "changes",
    [
        {"description": "x" * 100_000},
        {"x" * 100_000: 1},
        {"name": "x" * 100_000},
        {"concepts": [{"name": "gear" * 25_000, "requested": 1}]},
        {"concepts": [{"name": f"gear {number}", "requested": 1} for number in range(300)]},
        {"concepts": [{"name": "gear", "requested": 1, "templates": ["y" * 1000]}]},
        {"engine": "z" * 100_000},
        {"engine": {"kind": ["x"] * 1000}},
        {"generator": {"model": "m", "module": "x" * 900}},
        {"prompts": {"attributes": {"x" * 100_000: ["a"]}}},
        {"prompts": {"templates": ["a {concept} {" + "x" * 900 + "}"]}},
        {"annotation": {"things": ["concept", "x" * 100_000]}},
        {"splits": {"x" * 100_000: 1}},
        {"quality": {"gates": {"x" * 100_000: {}}}},
        {"seed": 10**5000},
        {"seed": "1" * 100_000},
    ],
)
def test_no_error_repeats_a_long_value(changes: dict[str, Any]) -> None:
    for line in mistakes(**changes):
        assert len(line) < 810
        assert "xxxxx" * 20 not in line
        assert "yyyyy" * 20 not in line
