"""The report page: what is chosen, what is counted, what is escaped."""

import json
from html.parser import HTMLParser
from importlib import resources
from io import BytesIO
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from schemas.receipts import Receipt
from schemas.recipe import Concept, Recipe, parse_recipe
from schemas.tables import MANIFEST, REJECTS, SEEDS
from tasks.methods.count_outcomes import count_concepts, count_splits, sum_timings
from tasks.methods.draw_references import Reference
from tasks.methods.draw_report import (
    ReportData,
    choose_examples,
    describe_reason,
    draw_histograms,
    draw_report,
    examples_per_concept,
    show_percent,
    show_seconds,
)

TEMPLATE = resources.files("tasks").joinpath("report.html.j2").read_text(encoding="utf-8")
HOSTILE = '</script></style><script>alert("1")</script><img src=x onerror=alert(1)>\'"&'


def _recipe() -> Recipe:
    data = {
        "name": "tiny",
        "description": "Two things.",
        "seed": 1,
        "concepts": [{"name": "gear", "wanted": 3}, {"name": "hook", "wanted": 2}],
        "splits": {"train": 0.8, "test": 0.2},
        "generator": {"model": "catalog:tiny"},
    }
    return parse_recipe(data, "recipe.yaml")


def _row(number: int, concept: str, **values: Any) -> dict[str, Any]:
    row = dict.fromkeys([*MANIFEST.names, *REJECTS.names])
    class_id = {"gear": 0, "hook": 1}.get(concept, 0)
    return (
        row
        | {"sample_id": f"{number:016x}", "concept": concept, "class_id": class_id, "caption": concept, "attempt": 0}
        | values
    )


def _manifest(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"split": "train", **{k: v for k, v in r.items() if v is not None}} for r in rows], MANIFEST
    )


def _rejects(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"status": "ok", **{k: v for k, v in r.items() if v is not None}} for r in rows], REJECTS
    )


def _picture(mode: str = "RGB") -> bytes:
    out = BytesIO()
    Image.new(mode, (8, 8), 1).save(out, "PNG")
    return out.getvalue()


def _data(manifest: pa.Table, rejects: pa.Table, recipe: Recipe | None = None, **values: Any) -> ReportData:
    ids = [*manifest["sample_id"].to_pylist(), *rejects["sample_id"].to_pylist()]
    examples = {sample_id: (_picture(), _picture("L")) for sample_id in ids}
    fields: dict[str, Any] = {"version": "1.0.0", "examples": examples, "receipts": [], "lineage": {}, **values}
    return ReportData(recipe=recipe or _recipe(), manifest=manifest, rejects=rejects, **fields)


class _Page(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page.decode())
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, tag: str, attribute: str) -> list[str | None]:
        return [attributes.get(attribute) for name, attributes in self.tags if name == tag]


def test_examples_are_the_first_by_id_without_copies_and_failures() -> None:
    manifest = _manifest(
        _row(9, "gear"), _row(2, "hook"), _row(5, "gear"), _row(1, "gear"), _row(0, "gear", parent_id="1")
    )
    rejects = _rejects(
        _row(20, "gear", reason="blur"),
        _row(21, "gear", reason="blur"),
        _row(30, "hook", reason="blur"),
        _row(22, "gear", reason="dark"),
        _row(10, "gear", reason="blur", status="failed", error="NaN"),
    )
    accepted, rejected = choose_examples(manifest, rejects, per_concept=2, per_reason=2)
    assert [int(sample_id, 16) for sample_id in accepted] == [1, 5, 2]
    assert [int(sample_id, 16) for sample_id in rejected] == [20, 30, 22]


@given(st.permutations(range(12)))
def test_the_choice_does_not_depend_on_the_order_of_rows(order: list[int]) -> None:
    accepted = [_row(k, "gear" if k % 3 else "hook") for k in order]
    rejected = [_row(k, "gear" if k % 3 else "hook", reason="ab"[k % 2]) for k in order]
    plain = [sorted(rows, key=lambda row: row["sample_id"]) for rows in (accepted, rejected)]
    chosen = choose_examples(_manifest(*accepted), _rejects(*rejected), 3, 3)
    assert chosen == choose_examples(_manifest(*plain[0]), _rejects(*plain[1]), 3, 3)


@pytest.mark.parametrize(("concepts", "shown"), [(1, 12), (25, 12), (30, 10), (254, 2)])
def test_many_concepts_show_fewer_images_each(concepts: int, shown: int) -> None:
    assert examples_per_concept(concepts) == shown


def test_counts_leave_augmented_copies_apart() -> None:
    manifest = _manifest(_row(1, "gear"), _row(2, "gear", split="test"), _row(3, "gear", parent_id="1"))
    rejects = _rejects(
        _row(4, "gear", reason="blur"), _row(5, "hook", reason="blur"), _row(6, "gear", reason="surplus")
    )
    gear, hook = count_concepts(_recipe(), manifest, rejects)
    assert (gear.accepted, gear.surplus, gear.rejected, gear.copies) == (2, 1, 1, 1)
    assert (gear.missing, gear.rate) == (1, 3 / 4)
    assert (hook.accepted, hook.rejected, hook.missing, hook.rate) == (0, 1, 2, 0.0)
    assert count_splits(_recipe(), manifest) == [("train", 1, 4.0), ("test", 1, 1.0)]


@pytest.mark.parametrize(
    ("reason", "title", "explanation"),
    [
        ("sharpness_low", "Sharpness too low", "Gate: at least 60"),
        ("surplus", "Surplus", "Passed every gate, but enough had been accepted"),
        ("too_purple", "too purple", ""),
    ],
)
def test_reasons_in_words(reason: str, title: str, explanation: str) -> None:
    recipe = parse_recipe({**_recipe().model_dump(), "quality": {"gates": {"sharpness": {"min": 60}}}}, "recipe.yaml")
    assert describe_reason(reason, recipe) == (title, explanation)


def test_surplus_passed_and_quantiles_are_those_of_the_first_round() -> None:
    gate = {"quality": {"gates": {"brightness": {"min_quantile": 1.0}}}}
    recipe = parse_recipe({**_recipe().model_dump(), **gate}, "recipe.yaml")
    manifest = _manifest(_row(1, "gear", brightness=0.5), _row(2, "gear", brightness=1.0, attempt=1))
    rejects = _rejects(
        _row(3, "gear", brightness=0.5, reason="surplus"), _row(4, "gear", brightness=0.0, reason="brightness_low")
    )
    (drawn,) = draw_histograms(_data(manifest, rejects, recipe))
    assert "passed 3, median 0.5; rejected 1, median 0" in drawn.summary
    assert [cut.x for cut in drawn.cuts] == [
        160.0
    ]  # 0.5 of 0 to 1, the middle of 320; round 1 would move it to the right


def _receipt(stage: str, rows: int, seconds: float) -> Receipt:
    return Receipt(
        stage=stage,
        fingerprint="0" * 32,
        part=0,
        label=stage,
        uri="artifacts/x",
        sha256="0" * 64,
        rows=rows,
        bytes=1,
        timings={"compute": seconds},
        versions={"numpy": "2.4.6"},
    )


def test_timings_add_up_by_stage_in_order() -> None:
    first, second = sum_timings(
        [_receipt("synthesize", 10, 3.0), _receipt("annotate", 10, 1.0), _receipt("synthesize", 5, 4.0)]
    )
    assert (first.name, first.partitions, first.samples, first.seconds, first.share) == (
        "synthesize",
        2,
        15,
        7.0,
        7 / 8,
    )
    assert first.rate == pytest.approx(15 / 7)
    assert (second.name, second.share) == ("annotate", 1 / 8)


def test_no_time_is_no_rate() -> None:
    (stage,) = sum_timings([_receipt("plan", 10, 0.0)])
    assert (stage.share, stage.rate) == (0.0, None)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "12 ms"), (9.96, "10.0 s"), (59.94, "59.9 s"), (337, "5 min 37 s"), (7260, "2 h 01 min")],
)
def test_seconds_in_the_unit_of_a_person(value: float, text: str) -> None:
    assert show_seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.76, "76 %"),
        (0.0123, "1.2 %"),
        (0.0001, "< 0.1 %"),
        (0.9999, "99.9 %"),
        (0.996, "99.6 %"),
    ],
)
def test_a_percentage_is_0_or_100_only_when_true(value: float, text: str) -> None:
    assert show_percent(value) == text


def test_the_page_tells_counts_reasons_and_how_to_make_an_image_again() -> None:
    manifest = _manifest(_row(1, "gear", sharpness=120.0), _row(2, "gear", sharpness=80.0))
    rejects = _rejects(
        _row(3, "hook", reason="near_duplicate", sharpness=60.0),
        _row(4, "hook", reason="synthesis", status="failed", error="not a number in 12 pixels"),
    )
    receipts = [_receipt("synthesize", 4, 30.0)]
    files = draw_report(
        _data(manifest, rejects, receipts=receipts, lineage={"sha256 of the generator": "ab12"}), TEMPLATE
    )
    page = _Page(files["index.html"])
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
    assert {name for name in page.values("img", "src") if name} == set(files) - {"index.html"}


def test_everything_is_escaped_also_where_a_recipe_could_not_have_passed() -> None:
    gear = Concept.model_construct(**{**dict(_recipe().concepts[0]), "name": HOSTILE})
    recipe = _recipe().model_copy(
        update={"concepts": (gear,), "description": HOSTILE, "license": HOSTILE, "creator": HOSTILE}
    )
    row = _row(1, HOSTILE, caption=HOSTILE, engine=HOSTILE, shard=HOSTILE, mask_source=HOSTILE, clip_score=0.2)
    reject = _row(2, HOSTILE, caption=HOSTILE, reason=HOSTILE, status="failed", error=HOSTILE)
    receipts = [_receipt(HOSTILE, 1, 1.0)]
    data = _data(
        _manifest(row), _rejects(reject), recipe, receipts=receipts, lineage={HOSTILE: HOSTILE}, version=HOSTILE
    )
    page = _Page(draw_report(data, TEMPLATE)["index.html"])
    assert len(page.values("script", "nonce")) == 1
    assert set(page.values("img", "src")) == {f"images/{n:016x}.png" for n in (1, 2)}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) >= 12


def test_nothing_comes_from_elsewhere() -> None:
    page = _Page(draw_report(_data(_manifest(_row(1, "gear")), _rejects()), TEMPLATE)["index.html"])
    tags = [tag for tag, _ in page.tags]
    assert "link" not in tags
    assert "iframe" not in tags
    links = [value for tag, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert all(link and link.startswith(("#", "images/")) for link in links)


@pytest.mark.parametrize("empty", ["manifest", "rejects", "both"])
def test_an_empty_table_still_makes_a_page(empty: str) -> None:
    manifest = _manifest() if empty in ("manifest", "both") else _manifest(_row(1, "gear"))
    rejects = _rejects() if empty in ("rejects", "both") else _rejects(_row(2, "hook", reason="blur"))
    text = _Page(draw_report(_data(manifest, rejects), TEMPLATE)["index.html"]).text
    assert ("No image was accepted." in text) is (empty != "rejects")
    assert ("Nothing was rejected." in text) is (empty != "manifest")


def test_samples_without_mask_or_example_are_left_bare() -> None:
    manifest = _manifest(_row(1, "gear"), _row(2, "gear"))
    data = _data(manifest, _rejects(), examples={f"{1:016x}": (_picture(), None)})
    files = draw_report(data, TEMPLATE)
    page = _Page(files["index.html"])
    assert set(files) == {"index.html", "images/0000000000000001.png"}
    assert "mask" not in page.values("span", "class")


def test_surplus_is_neither_called_nor_counted_as_rejected() -> None:
    rejects = _rejects(
        _row(3, "gear", reason="blur"), _row(4, "gear", reason="surplus"), _row(5, "hook", reason="surplus")
    )
    page = _Page(draw_report(_data(_manifest(_row(1, "gear")), rejects), TEMPLATE)["index.html"])
    assert "blur 1 100 % of those rejected" in page.text
    assert "1 image did not pass." in page.text
    assert "2 images passed every gate when enough had been accepted" in page.text
    assert page.text.count("rejected: blur") == 1
    assert "rejected: Surplus" not in page.text
    assert page.text.count("not needed: it passed every gate") == 2
    alone = _Page(draw_report(_data(_manifest(), _rejects(_row(4, "gear", reason="surplus"))), TEMPLATE)["index.html"])
    assert "Nothing was rejected." in alone.text
    assert "did not pass" not in alone.text


def test_reference_photographs_are_shown_with_number_and_file() -> None:
    origin = {"forward_evaluations": 8, "backward_evaluations": 0, "nearest_reference": 1, "reference_cosine": 0.75}
    manifest = _manifest(_row(1, "gear", provenance=json.dumps(origin)))
    references = {"gear": (Reference("first.jpg", b"one"), Reference(HOSTILE, b"two"), Reference(None))}
    files = draw_report(_data(manifest, _rejects(), references=references), TEMPLATE)
    page = _Page(files["index.html"])
    assert (files["references/0-1.webp"], files["references/0-2.webp"]) == (b"one", b"two")
    assert {"references/0-1.webp", "references/0-2.webp"} < set(page.values("img", "src"))
    assert "gear 2 of 3; 1 file could not be read again when the version was published" in page.text
    assert "#1 first.jpg" in page.text
    assert f"Nearest reference #2 {HOSTILE}, cosine 0.75" in page.text
    assert "Reference photographs" not in _Page(draw_report(_data(manifest, _rejects()), TEMPLATE)["index.html"]).text


def test_searches_stand_in_the_order_of_the_recipe() -> None:
    searched = json.dumps({"forward_evaluations": 8, "backward_evaluations": 0})
    manifest = _manifest(*(_row(i, name, provenance=searched) for i, name in enumerate(("hook", "gear"))))
    page = _Page(draw_report(_data(manifest, _rejects()), TEMPLATE)["index.html"])
    assert "Nearest reference gear 1 8 – hook 1 8 –" in page.text


def test_images_of_mixes_show_where_their_noises_came_from_and_no_empty_column() -> None:
    mixed = {
        "forward_evaluations": 24, "backward_evaluations": 0, "mode": "bootstrapped", "mixes": 4, "fresh_share": 0.05,
        "iterations": 6, "candidate": 2,
    }  # fmt: skip
    recipe = parse_recipe(
        {
            **_recipe().model_dump(exclude={"engine"}),
            "concepts": [{"name": name, "wanted": 1, "references": name} for name in ("gear", "hook")],
            "engine": {"kind": "seed_select", "mode": "bootstrapped", "encoder": {"model": "catalog:x"}},
        },
        "recipe.yaml",
    )
    record = json.dumps({"iterations": 6, "stop_reason": "confident", "confidence": 1.25})
    seeds = pa.Table.from_pylist([{"prompt": "gear", "record": record}], SEEDS).select(["prompt", "record"])
    manifest = _manifest(_row(1, "gear", provenance=json.dumps(mixed)))
    page = _Page(draw_report(_data(manifest, _rejects(), recipe, seeds=seeds), TEMPLATE)["index.html"])
    assert "best of 4 mixes by few steps" in page.text
    assert "Concept Noises found Steps Confidence Ended gear 1 6 1.25 reached stop 1" in page.text
    assert "Concept Images Network rows Nearest reference gear 1 24 –" in page.text
    assert "Mix the best of 4 screened, number 3" in page.text
    assert "Search steps" not in page.text
    full = json.dumps(mixed | {"mode": "full", "stop_reason": "no_better", "confidence": 0.5})
    other = _Page(draw_report(_data(_manifest(_row(1, "gear", provenance=full)), _rejects()), TEMPLATE)["index.html"])
    assert "Network rows Nearest reference Ended gear 1 6 0.5 24 – no better 1" in other.text


def test_the_training_of_the_generator_is_told_where_it_is_known() -> None:
    known, unknown = (
        _Page(draw_report(_data(_manifest(), _rejects(), training=told), TEMPLATE)["index.html"])
        for told in (("rare was adapted from <b>parts</b>.", "Nothing is recorded of how parts was trained."), ())
    )
    assert (
        "The generator rare was adapted from <b>parts</b>. Nothing is recorded of how parts was trained." in known.text
    )
    assert "The generator" not in unknown.text


def test_the_legend_explains_the_colours_that_masks_can_show() -> None:
    manifest, plain = _manifest(_row(1, "gear")), "In masks: outlined: a thing dimmed: background"
    assert plain in _Page(draw_report(_data(manifest, _rejects()), TEMPLATE)["index.html"]).text
    recipe = _recipe()
    annotation = recipe.annotation.model_copy(update={"stuff": ("surface", "sky")})
    ignored = BytesIO()
    Image.new("L", (8, 8), 255).save(ignored, "PNG")
    data = _data(
        manifest,
        _rejects(),
        recipe.model_copy(update={"annotation": annotation}),
        examples={f"{1:016x}": (_picture(), ignored.getvalue())},
    )
    page = _Page(draw_report(data, TEMPLATE)["index.html"])
    assert (
        "In masks: outlined: a thing tinted: stuff around things (surface, sky) grey: ignored (255), too close to call "
        "dimmed: background" in page.text
    )
    assert "--paint: rgb(0 90 255 / 38%)" in page.values("span", "style")
    bare = _data(manifest, _rejects(), examples={f"{1:016x}": (_picture(), None)})
    assert "In masks" not in _Page(draw_report(bare, TEMPLATE)["index.html"]).text


@pytest.mark.parametrize(("concepts", "shown"), [(1, 8), (2, 8), (3, 6), (8, 8), (12, 12), (14, 12)])
def test_the_strip_above_shows_every_concept_and_is_never_one_huge_picture(concepts: int, shown: int) -> None:
    names = [f"thing {number}" for number in range(concepts)]
    wanted = tuple(Concept(name=name, wanted=9) for name in names)
    rows = [_row(9 * n + k, name, class_id=n) for n, name in enumerate(names) for k in range(9)]
    data = _data(_manifest(*rows), _rejects(), _recipe().model_copy(update={"concepts": wanted}))
    page = _Page(draw_report(data, TEMPLATE)["index.html"])
    assert page.values("a", "href").count("#gallery") - 1 == shown  # one is in the menu
