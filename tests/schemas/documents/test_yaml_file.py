"""YAML that a person wrote is read within limits, and what is wrong with it is one short error."""

from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tailforge.catalog.sources.recipes import apply_override, load_recipe, load_training_recipe
from tailforge.schemas.documents.yaml_file import find_unfit, parse_yaml
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.recipe import parse_recipe
from tests.schemas.checks.test_mistakes import GOOD
from tests.support.repository import ROOT

LAUGHS = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
MERGED = "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12))
CHAIN = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3000))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "more than 200,000 values or 64 levels"),
        (MERGED, "more than 200,000 values or 64 levels"),
        (CHAIN, "more than 200,000 values or 64 levels"),
        ("a: &a [*a]", "an alias stands for the list or mapping that contains it"),
        ("a: &a {<<: *a}", "an alias stands for the list or mapping that contains it"),
        ("[" * 5000 + "]" * 5000, "more than 64 levels"),
        ("{a: " * 5000 + "1" + "}" * 5000, "more than 64 levels"),
        ("- " * 5000 + "1", "more than 64 levels"),
        ("a: " + "1" * 5000, "a number of 5,000 characters"),
        ("a: 0x" + "f" * 5000, "a number of 5,002 characters"),
        ("a: 1" + ":59" * 5000, "a number of 15,001 characters"),
        (f"a: {10**30}", "a whole number beyond 64 bits"),
        (f"a: -{10**30}", "a whole number beyond 64 bits"),
        ("a: 2020-02-31", "'2020-02-31' is no value of type timestamp"),
        ("a: 2020-01-01 25:00:00", "is no value of type timestamp"),
        ("a: !!timestamp x", "'x' is no value of type timestamp"),
        ('a: !!int ""', "'' is no value of type int"),
        ('a: !!float ""', "'' is no value of type float"),
        ("a: !!bool x", "'x' is no value of type bool"),
        ("a: !!int 0x", "'0x' is no value of type int"),
        ("a: !!int [1]", "expected a scalar node"),
        ("a: !!map x", "expected a mapping node"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: !" + "x" * 100_000, "..."),
        ("? [1, 2]\n: 3", "unhashable key"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a: *b", "undefined alias"),
        ("a: \ud800", "no UTF-8"),
        ("a: !!binary é", "base64"),
        ("a: \x07", "control characters|special characters"),
        ("a: {b: 1, b: 2}", "key 'b' is given twice"),
        ("a: {b: 1, 'b': 2}", "key 'b' is given twice"),
        ("<<: {a: 1}\n<<: {b: 2}", "key '<<' is given twice"),
        ("x" * (2**20 + 1), "1,048,577 characters"),
    ],
)
@pytest.mark.timeout(120)
def test_what_is_beyond_the_limits_is_one_short_error(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as raised:
        parse_yaml(text, "it.yaml")
    assert str(raised.value).startswith("it.yaml: ")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.timeout(120)
def test_a_value_of_set_has_the_same_limits() -> None:
    for text in (LAUGHS, "[" * 5000, "1" * 5000, "2020-02-31", "!!bool x", f"{10**30}"):
        with pytest.raises(RecipeError, match=r"^--set ") as raised:
            apply_override({}, f"a={text}")
        assert len(str(raised.value)) < 400


def test_merged_keys_may_be_given_again_and_are_no_key_given_twice() -> None:
    text = "x: {y: {a: &a {<<: &z {k: 0, m: 3}, k: 1}}}\nb: {<<: *a, k: 2}\nc: {<<: [*a, *z]}"
    read = parse_yaml(text, "it.yaml")
    assert read["x"]["y"]["a"] == {"k": 1, "m": 3}
    assert read["b"] == {"k": 2, "m": 3}
    assert read["c"] == {"k": 1, "m": 3}


def test_an_override_changes_one_place_although_an_alias_named_two() -> None:
    data = parse_yaml("a: &a {k: 1}\nb: *a", "it.yaml")
    apply_override(data, "a.k=2")
    assert data == {"a": {"k": 2}, "b": {"k": 1}}


def test_the_training_recipe_that_merges_is_read() -> None:
    path = ROOT / "catalog" / "recipes" / "train-workshop.yaml"
    phases = load_training_recipe(path).diffusion.phases  # type: ignore[union-attr]
    assert len({tuple(sorted(phase.part_weights.items())) for phase in phases}) > 1


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Z"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(PLAIN)
def test_what_yaml_writes_is_read_as_it_was(value: object) -> None:
    assert parse_yaml(yaml.safe_dump(value, allow_unicode=True), "it.yaml") == value


@given(st.text() | st.text(st.characters()) | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(RecipeError):
        parse_yaml(text, "it.yaml")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"name: \xe9\n"])
def test_a_file_in_another_encoding_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(content)
    with pytest.raises(RecipeError, match="no UTF-8 text"):
        load_recipe(str(file))


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x01", "\x7f", "\x9b", "\ud800", "\u202e", "\u2028", "\r"])
def test_characters_that_steer_a_terminal_are_refused_wherever_they_are(character: str) -> None:
    places = [{"a": [f"x{character}"]}, {f"k{character}": 1}, {"a": {"b": {f"{character}": {}}}}]
    for place in places:
        (line,) = find_unfit(place)
        assert f"U+{ord(character):04X}" in line
        assert character not in line
    with pytest.raises(RecipeError, match=rf"description: holds the control character U\+{ord(character):04X}"):
        parse_recipe(GOOD | {"description": f"a {character}"}, "it.yaml")


def test_lines_and_tabs_are_kept() -> None:
    assert parse_recipe(GOOD | {"description": "two\nlines\tthere"}, "it.yaml").description == "two\nlines\tthere"
