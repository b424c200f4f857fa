"""The report's sections that only some builds have, and its legend and strip."""

import json
from io import BytesIO

import numpy as np
import pyarrow as pa
from PIL import Image

from tailforge.schemas.recipe import parse_recipe
from tailforge.schemas.tables import SEEDS
from tailforge.tasks.methods.masks.codec import encode_rle
from tailforge.tasks.report.page import draw_report
from tailforge.tasks.report.references import Reference
from tests.support.report_tables import (
    HOSTILE,
    TEMPLATES,
    Page,
    make_data,
    make_manifest,
    make_picture,
    make_recipe,
    make_rejects,
    make_row,
    read_page,
)


def test_reference_photographs_are_shown_with_number_and_file() -> None:
    origin = {"forward_evaluations": 8, "backward_evaluations": 0, "nearest_reference": 1, "reference_cosine": 0.75}
    manifest = make_manifest(make_row(1, "gear", provenance=json.dumps(origin)))
    references = {"gear": (Reference("first.jpg", b"one"), Reference(HOSTILE, b"two"), Reference(None))}
    files = draw_report(make_data(manifest, make_rejects(), references=references), TEMPLATES)
    page = Page(files["index.html"])
    assert (files["references/0-1.webp"], files["references/0-2.webp"]) == (b"one", b"two")
    assert {"references/0-1.webp", "references/0-2.webp"} < set(page.values("img", "src"))
    assert "Reference photographs 2 of 3; 1 file could not be read again when the version was published" in page.text
    assert "#1 first.jpg" in page.text
    assert f"Nearest reference #2 {HOSTILE}, cosine 0.75" in page.text
    assert "Reference photographs" not in read_page(make_data(manifest, make_rejects())).text


def test_searches_stand_in_the_order_of_the_recipe() -> None:
    searched = json.dumps({"forward_evaluations": 8, "backward_evaluations": 0})
    manifest = make_manifest(*(make_row(i, name, provenance=searched) for i, name in enumerate(("hook", "gear"))))
    page = read_page(make_data(manifest, make_rejects()))
    assert "Nearest reference gear 1 8 – hook 1 8 –" in page.text


def test_images_of_mixes_show_where_their_noises_came_from_and_no_empty_column() -> None:
    mixed = {
        "forward_evaluations": 24, "backward_evaluations": 0, "mode": "bootstrapped", "mixes": 4, "fresh_share": 0.05,
        "iterations": 6, "candidate": 2,
    }  # fmt: skip
    recipe = parse_recipe(
        {
            **make_recipe().model_dump(exclude={"engine"}),
            "concepts": [{"name": name, "requested": 1, "references": name} for name in ("gear", "hook")],
            "engine": {"kind": "seed_select", "mode": "bootstrapped", "encoder": {"model": "catalog:x"}},
        },
        "recipe.yaml",
    )
    record = json.dumps({"iterations": 6, "stop_reason": "confident", "confidence": 1.25})
    seeds = pa.Table.from_pylist([{"prompt": "gear", "record": record}], SEEDS).select(["prompt", "record"])
    manifest = make_manifest(make_row(1, "gear", provenance=json.dumps(mixed)))
    page = read_page(make_data(manifest, make_rejects(), recipe, seeds=seeds))
    assert "best of 4 mixes, compared after few steps" in page.text
    assert "Concept Noises found Steps Confidence Ended gear 1 6 1.25 reached stop 1" in page.text
    assert "Concept Images Network rows Nearest reference gear 1 24 –" in page.text
    assert "Mix the best of 4 screened, number 3" in page.text
    assert "Search steps" not in page.text
    full = json.dumps(mixed | {"mode": "full", "stop_reason": "no_better", "confidence": 0.5})
    other = read_page(make_data(make_manifest(make_row(1, "gear", provenance=full)), make_rejects()))
    assert "Network rows Nearest reference Ended gear 1 6 0.5 24 – no better 1" in other.text


def test_the_training_of_the_generator_is_told_where_it_is_known() -> None:
    known, unknown = (
        read_page(make_data(make_manifest(), make_rejects(), training=told))
        for told in (("rare was adapted from <b>parts</b>.", "Nothing is recorded of how parts was trained."), ())
    )
    assert (
        "The generator rare was adapted from <b>parts</b>. Nothing is recorded of how parts was trained." in known.text
    )
    assert "The generator" not in unknown.text


def test_the_legend_explains_the_colours_that_masks_can_show() -> None:
    manifest, plain = make_manifest(make_row(1, "gear")), "In masks: outlined: a thing dimmed: background"
    assert plain in read_page(make_data(manifest, make_rejects())).text
    recipe = make_recipe()
    annotation = recipe.annotation.model_copy(update={"stuff": ("surface", "sky")})
    ignored = BytesIO()
    Image.new("L", (8, 8), 255).save(ignored, "PNG")
    data = make_data(
        manifest,
        make_rejects(),
        recipe.model_copy(update={"annotation": annotation}),
        examples={f"{1:016x}": (make_picture(), ignored.getvalue())},
    )
    page = read_page(data)
    assert (
        "In masks: outlined: a thing tinted: stuff around things (surface, sky) grey: ignored (255), uncertain "
        "dimmed: background" in page.text
    )
    assert "--paint: rgb(0 90 255 / 38%)" in page.values("span", "style")
    crowd = {"slot": "concept", "category": "gear", "category_id": 1, "bbox": [0, 0, 8, 8], "area": 64, "score": 0.9}
    crowded = make_manifest(
        make_row(1, "gear", instances=[crowd | {"rle": encode_rle(np.ones((8, 8), np.bool_)), "crowd": True}])
    )
    page = read_page(make_data(crowded, make_rejects()))
    assert "In masks: outlined: a thing hatched: several things that touch (a crowd) dimmed: background" in page.text
    assert page.values("span", "class").count("hatched") == 1
    bare = make_data(manifest, make_rejects(), examples={f"{1:016x}": (make_picture(), None)})
    assert "In masks" not in read_page(bare).text


def test_the_gallery_comes_first_and_shows_real_photographs_beside_each_concept() -> None:
    manifest = make_manifest(make_row(1, "gear"))
    references = {"gear": (Reference("a.jpg", b"one"),), "hook": (Reference("b.jpg"),)}
    page = read_page(make_data(manifest, make_rejects(), references=references))
    sections = [name for name in page.values("section", "id") if name]
    assert sections[:2] == ["gallery", "worth"]  # no score, so no weakest images
    assert "gear 1 of 1 Reference photographs 1 of 1 #1 a.jpg" in page.text
    assert (
        "hook 0 of 0 Reference photographs 0 of 1; the recipe copies none into reports No image was accepted."
        in page.text
    )


def test_the_weakest_accepted_images_are_shown_with_their_score_and_gate() -> None:
    gate = {"quality": {"gates": {"sharpness": {"min": 50}}}}
    recipe = parse_recipe({**make_recipe().model_dump(), **gate}, "recipe.yaml")
    manifest = make_manifest(*(make_row(k, "gear", sharpness=50.0 + k) for k in range(1, 4)))
    page = read_page(make_data(manifest, make_rejects(), recipe))
    notes = [f"gear Sharpness {value}, gate 50" for value in (51, 52, 53)]
    assert page.text.index(notes[0]) < page.text.index(notes[1]) < page.text.index(notes[2])
    ids = [name for name in page.values("div", "id") if name]
    assert len(ids) == len(set(ids))
