"""A licence is an SPDX identifier, or another one by its name; every format says which in its own words."""

from typing import Any

import pytest

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.recipe import parse_recipe, read_stored_recipe
from tailforge.schemas.settings.licences import OtherLicence, describe_licence, find_identifier, parse_licence
from tests.schemas.checks.test_mistakes import GOOD


@pytest.mark.parametrize(
    "text",
    ["CC BY 4.0", "Proprietary, ask us", "CC0-1.0 OR MIT", "CC-BY", "LicenseRef-ours", "GPL-2.0+", "MIT AND", "()", "",
     "(" * 900],
)  # fmt: skip
def test_a_text_that_is_no_identifier_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"license: .*no SPDX identifier"):
        parse_recipe(GOOD | {"license": text}, "it.yaml")
    assert read_stored_recipe(GOOD | {"license": text or "x"}, "it").license == (text or "x")


@pytest.mark.parametrize(("text", "kept"), [("cc0-1.0", "CC0-1.0"), (" mit ", "MIT"), ("CC-BY-4.0", "CC-BY-4.0")])
def test_an_identifier_is_kept_as_spdx_writes_it(text: str, kept: str) -> None:
    assert parse_recipe(GOOD | {"license": text}, "it.yaml").license == kept


@pytest.mark.parametrize("url", ["ftp://a.b/c", "https://user:word@a.b/c", "a.b", "https://a b", "javascript:alert(1)"])
def test_an_address_of_a_licence_is_a_plain_one(url: str) -> None:
    with pytest.raises(RecipeError, match=r"license\.url"):
        parse_recipe(GOOD | {"license": {"name": "Ours", "url": url}}, "it.yaml")


def test_photographs_may_have_an_unknown_licence_which_is_not_stored() -> None:
    for given in ({}, {"references_license": "unknown"}):
        assert "references_license" not in parse_recipe(GOOD | given, "it.yaml").model_dump(mode="json")
    recipe = parse_recipe(GOOD | {"references_license": "mit"}, "it.yaml")
    assert recipe.references_license == "MIT"
    assert read_stored_recipe(recipe.model_dump(mode="json"), "it") == recipe


@pytest.mark.parametrize("given", ["CC BY 4.0", {"url": "https://a.b"}, 4])
@pytest.mark.parametrize("key", ["license", "references_license"])
def test_a_wrong_licence_is_one_mistake(key: str, given: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(GOOD | {key: given}, "it.yaml")
    assert str(caught.value).startswith(f"it.yaml: {key}")


@pytest.mark.parametrize(
    ("text", "found"),
    [("cc0-1.0", "CC0-1.0"), ("unknown", "unknown"), (" Ours,  ask us ", OtherLicence(name="Ours, ask us"))],
)
def test_a_person_names_a_licence(text: str, found: str | OtherLicence) -> None:
    assert parse_licence(text) == found


@pytest.mark.parametrize("text", ["", " ", "x" * 1001])
def test_a_text_that_names_no_licence_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="give an SPDX identifier"):
        parse_licence(text)


OURS = {"name": "Proprietary, ask us", "url": "https://example.org/licence.txt"}


@pytest.mark.parametrize(
    ("given", "name", "url", "hub"),
    [
        ("CC-BY-4.0", "CC-BY-4.0", "https://spdx.org/licenses/CC-BY-4.0.html", {"license": "cc-by-4.0"}),
        ("ODbL-1.0", "ODbL-1.0", "https://spdx.org/licenses/ODbL-1.0.html", {"license": "odbl"}),
        (
            "GPL-3.0-or-later",
            "GPL-3.0-or-later",
            "https://spdx.org/licenses/GPL-3.0-or-later.html",
            {"license": "gpl-3.0"},
        ),
        (
            "Beerware",
            "Beerware",
            "https://spdx.org/licenses/Beerware.html",
            {
                "license": "other",
                "license_name": "beerware",
                "license_link": "https://spdx.org/licenses/Beerware.html",
            },
        ),
        (
            OURS,
            OURS["name"],
            OURS["url"],
            {"license": "other", "license_name": "proprietary-ask-us", "license_link": OURS["url"]},
        ),
        (
            {"name": "CC0-1.0 OR MIT"},
            "CC0-1.0 OR MIT",
            None,
            {"license": "other", "license_name": "cc0-1.0-or-mit"},
        ),
        ("CC BY 4.0", "CC BY 4.0", None, {"license": "other", "license_name": "cc-by-4.0"}),
        ("???", "???", None, {"license": "other", "license_name": "other"}),
    ],
)
def test_formats_tell_a_licence_in_their_own_words(given: Any, name: str, url: str | None, hub: dict[str, str]) -> None:
    told = describe_licence(given if isinstance(given, str) else OtherLicence.model_validate(given))
    assert (told.name, told.url, dict(told.hub)) == (name, url, hub)
    if not isinstance(given, str):
        assert describe_licence(parse_recipe(GOOD | {"license": given}, "it.yaml").license) == told


def test_identifiers_are_those_of_spdx() -> None:
    assert find_identifier("apache-2.0") == "Apache-2.0"
    assert find_identifier("no-such-licence") is None
