"""The report page: what is counted, what is escaped."""

import pytest

from tailforge.schemas.recipe import Concept, parse_recipe
from tailforge.tasks.report.page import draw_histograms, draw_report
from tailforge.tasks.report.reasons import describe_reason
from tests.support.report_tables import (
    HOSTILE,
    TEMPLATES,
    Page,
    make_data,
    make_manifest,
    make_picture,
    make_receipt,
    make_recipe,
    make_rejects,
    make_row,
    read_page,
)


@pytest.mark.parametrize(
    ("reason", "title", "explanation"),
    [
        ("sharpness_low", "Sharpness too low", "Gate: at least 60"),
        ("surplus", "Surplus", "Passed every gate, but enough images were accepted"),
        ("too_purple", "too purple", ""),
    ],
)
def test_reasons_in_words(reason: str, title: str, explanation: str) -> None:
    recipe = parse_recipe(
        {**make_recipe().model_dump(), "quality": {"gates": {"sharpness": {"min": 60}}}}, "recipe.yaml"
    )
    assert describe_reason(reason, recipe) == (title, explanation)


def test_surplus_passed_and_quantiles_are_those_of_the_first_round() -> None:
    gate = {"quality": {"gates": {"brightness": {"min_quantile": 1.0}}}}
    recipe = parse_recipe({**make_recipe().model_dump(), **gate}, "recipe.yaml")
    manifest = make_manifest(make_row(1, "gear", brightness=0.5), make_row(2, "gear", brightness=1.0, attempt=1))
    rejects = make_rejects(
        make_row(3, "gear", brightness=0.5, reason="surplus"),
        make_row(4, "gear", brightness=0.0, reason="brightness_low"),
    )
    (drawn,) = draw_histograms(make_data(manifest, rejects, recipe))
    assert "passed 3, median 0.5; rejected 1, median 0" in drawn.summary
    assert [cut.x for cut in drawn.cuts] == [
        160.0
    ]  # 0.5 of 0 to 1, the middle of 320; round 1 would move it to the right


def test_the_page_tells_counts_reasons_and_how_to_make_an_image_again() -> None:
    manifest = make_manifest(make_row(1, "gear", sharpness=120.0), make_row(2, "gear", sharpness=80.0))
    rejects = make_rejects(
        make_row(3, "hook", reason="near_duplicate", sharpness=60.0),
        make_row(4, "hook", reason="synthesis", status="failed", error="not a number in 12 pixels"),
    )
    receipts = [make_receipt("synthesize", 4, 30.0)]
    files = draw_report(
        make_data(manifest, rejects, receipts=receipts, lineage={"sha256 of the generator": "ab12"}), TEMPLATES
    )
    page = Page(files["index.html"])
    for words in (
        "tiny 1.0.0",
        "2 concepts fell short after the last round: gear by 1, hook by 2.",
        "2 accepted images of 2",
        "Near duplicate Nearly the same as an earlier image of this build",
        "not a number in 12 pixels (1)",
        "tailforge regenerate 0000000000000001 --dataset tiny",
        "synthesize 1 4 30.0 s 100 % 0.133",
        "ab12",
        "2.4.6",
        "name: tiny",
    ):
        assert words in page.text, words
    assert all(alt is not None for alt in page.values("img", "alt"))
    assert {name for name in page.values("img", "src") if name} == set(files) - {"index.html", "summary.json"}


def test_everything_is_escaped_also_where_a_recipe_could_not_have_passed() -> None:
    gear = Concept.model_construct(**{**dict(make_recipe().concepts[0]), "name": HOSTILE})
    recipe = make_recipe().model_copy(
        update={"concepts": (gear,), "description": HOSTILE, "license": HOSTILE, "creator": HOSTILE}
    )
    row = make_row(1, HOSTILE, caption=HOSTILE, engine=HOSTILE, shard=HOSTILE, mask_source=HOSTILE, clip_score=0.2)
    reject = make_row(2, HOSTILE, caption=HOSTILE, reason=HOSTILE, status="failed", error=HOSTILE)
    receipts = [make_receipt(HOSTILE, 1, 1.0)]
    data = make_data(
        make_manifest(row), make_rejects(reject), recipe, receipts=receipts, lineage={HOSTILE: HOSTILE}, version=HOSTILE
    )
    page = read_page(data)
    assert len(page.values("script", "nonce")) == 1
    assert set(page.values("img", "src")) == {f"images/{n:016x}.png" for n in (1, 2)}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) >= 12


def test_nothing_comes_from_elsewhere() -> None:
    page = read_page(make_data(make_manifest(make_row(1, "gear")), make_rejects()))
    tags = [tag for tag, _ in page.tags]
    assert "link" not in tags
    assert "iframe" not in tags
    links = [value for tag, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert all(link and link.startswith(("#", "images/")) for link in links)


@pytest.mark.parametrize("empty", ["manifest", "rejects", "both"])
def test_an_empty_table_still_makes_a_page(empty: str) -> None:
    manifest = make_manifest() if empty in ("manifest", "both") else make_manifest(make_row(1, "gear"))
    rejects = make_rejects() if empty in ("rejects", "both") else make_rejects(make_row(2, "hook", reason="blur"))
    text = read_page(make_data(manifest, rejects)).text
    assert ("No image was accepted." in text) is (empty != "rejects")
    assert ("Nothing was rejected." in text) is (empty != "manifest")


def test_samples_without_mask_or_example_are_left_bare() -> None:
    manifest = make_manifest(make_row(1, "gear"), make_row(2, "gear"))
    data = make_data(manifest, make_rejects(), examples={f"{1:016x}": (make_picture(), None)})
    files = draw_report(data, TEMPLATES)
    page = Page(files["index.html"])
    assert set(files) == {"index.html", "summary.json", "images/0000000000000001.png"}
    assert "mask" not in page.values("span", "class")


def test_surplus_is_neither_called_nor_counted_as_rejected() -> None:
    rejects = make_rejects(
        make_row(3, "gear", reason="blur"), make_row(4, "gear", reason="surplus"), make_row(5, "hook", reason="surplus")
    )
    page = read_page(make_data(make_manifest(make_row(1, "gear")), rejects))
    assert "blur 1 100 % of those rejected" in page.text
    assert "1 image did not pass." in page.text
    assert "2 images passed every gate after enough images were accepted" in page.text
    assert page.text.count("rejected: blur") == 1
    assert "rejected: Surplus" not in page.text
    assert page.text.count("surplus: it passed every gate") == 2
    alone = read_page(make_data(make_manifest(), make_rejects(make_row(4, "gear", reason="surplus"))))
    assert "Nothing was rejected." in alone.text
    assert "did not pass" not in alone.text
