"""Builds that draw into photographs without a generator: bytes, labels, splits, origin, and the same image again."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tailforge.catalog.registry import load_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tailforge.flows.build.prepare import prepare_build
from tailforge.flows.build.status import build_status
from tailforge.flows.build.walk import plan_build, walk
from tailforge.flows.build_dataset import require_finished
from tailforge.flows.samples.regenerate import regenerate_sample
from tailforge.flows.samples.remake import open_local
from tailforge.schemas.documents.run_lengths import decode_rle
from tailforge.schemas.errors import ImagesError, UserError
from tailforge.tasks.artifacts.contract import read_table
from tailforge.tasks.methods.masks.components import split_components
from tests.support.inpaint_recipes import (
    require_photograph_outside,
    rows_of,
    write_defects,
    write_parts,
    write_pasting,
)
from tests.support.local_builds import build_here
from tests.support.repository import ROOT

SHAPES = {"kind": "shapes", "area": [0.1, 0.2], "count": [1, 2]}
WHOLE = {"regions": {"kind": "defects", "count": [1, 2]}, "blend": "none", "min_change": 0}  # copies keep their shape
TERMS = {"copy_paste": "compositeCapture", "cut_paste": "compositeCapture", "noise_texture": "composite"}


def write_all(recipe: Path, kind: str, **changes: Any) -> Path:
    """Write photographs of good parts with splits, photographs of defects, and a recipe."""
    write_parts(recipe / "good", 6, 96, split=True, grouped=True)
    for place, concept in enumerate(("gear", "hook")):
        write_defects(recipe / f"broken {concept}", seed=3 + 10 * place)
    return write_pasting(recipe, {"kind": kind, **changes.pop("engine", {})}, **changes)


@pytest.fixture(scope="module", params=[*TERMS, "whole copies"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "_"))
    kind, own = ("copy_paste", WHOLE) if request.param == "whole copies" else (request.param, {"regions": SHAPES})
    recipe = write_all(folder / "recipe", kind, engine=own)
    return build_here(prepare_build(str(recipe), str(folder / "store")))


def home(made: Path) -> Path:
    return made.parents[3]


def kind_of(made: Path) -> str:
    return str(rows_of(made)[0]["provenance"]["kind"])


def test_outside_the_regions_every_published_pixel_is_the_photographs(made: Path) -> None:
    rows = require_photograph_outside(home(made), made)
    assert {row["concept"] for row in rows} == {"gear", "hook"}
    assert {row["mask_agreement"] for row in rows} == {None}


def test_a_sample_is_in_the_split_of_its_photograph(made: Path) -> None:
    rows = rows_of(made)
    assert {row["split"] for row in rows} == {"train", "test"}
    for row in rows:
        assert row["split"] == row["provenance"]["source"]["split"]


def test_no_generator_is_named_anywhere(made: Path) -> None:
    dataset = load_dataset(Store.open(str(home(made) / "store")), "tiny")
    assert dataset.recipe["generator"] is None
    assert (dataset.lineage["models"], dataset.generator_training) == ({}, None)
    for row in rows_of(made):
        assert set(row["provenance"]) & {"generator", "guide", "scheduler", "device", "steps"} == set()
        assert set(row["provenance"]["versions"]) == {"numpy", "scipy", "pillow"}
    assert "with these models" not in (made / "README.md").read_text()


def test_a_composite_without_a_trained_model_is_declared(made: Path) -> None:
    term = TERMS[kind_of(made)]
    assert {row["digital_source_type"].rpartition("/")[2] for row in rows_of(made)} == {term}
    data = b"".join(path.read_bytes() for path in made.glob("shards/*.tar"))
    assert data.count(f"digitalsourcetype/{term}".encode()) == len(rows_of(made))
    assert b"rained" not in re.sub(rb"[^\x20-\x7e]", b"", b"".join(re.findall(rb"<x:xmpmeta.*?</x:xmpmeta>", data)))
    card = (made / "README.md").read_text()
    assert f"`{term}`" in card
    assert "a model drew" not in card
    assert " composite images of " in card
    page = (made / "report" / "index.html").read_text()
    assert "Every image is a photograph with drawn regions." in page
    assert "with the same photographs, settings and libraries" in page
    assert "- inpainting: CC0-1.0" in card


def test_an_image_is_made_again_bit_by_bit(made: Path, tmp_path: Path) -> None:
    where = "tiny", str(home(made) / "store"), tmp_path / "again.png", home(made) / "recipe"
    for row in rows_of(made)[:3]:
        assert regenerate_sample(row["sample_id"], *where)["equal"] is True


def test_plan_status_and_verify_need_no_generator(made: Path) -> None:
    context = prepare_build(str(home(made) / "recipe" / "tiny.yaml"), str(home(made) / "store"))
    assert plan_build(context).complete
    assert all(each["to_do"] == 0 for each in build_status(context)["stages"])
    assert verify(Store.open(context.store), "tiny") == []


def test_a_second_build_makes_the_same_bytes(made: Path, tmp_path: Path) -> None:
    again = build_here(prepare_build(str(home(made) / "recipe" / "tiny.yaml"), str(tmp_path / "store")))
    for file in sorted(made.glob("shards/*.tar")):
        assert (again / "shards" / file.name).read_bytes() == file.read_bytes()


def test_copies_come_from_the_concepts_defects_of_the_same_split(tmp_path: Path) -> None:
    recipe = write_all(tmp_path / "recipe", "copy_paste", engine={"defects_license": "MIT"})
    context = prepare_build(str(recipe), str(tmp_path / "store"))
    version = build_here(context)
    digests = {place: found.digest for place, found in context.images.items()}
    assert set(digests) == {"engine.sources", "engine.defects.gear", "engine.defects.hook"}
    assert load_dataset(Store.open(context.store), "tiny").lineage["images"] == digests
    assert "- copies of defects: MIT" in (version / "README.md").read_text()
    for row in rows_of(version):
        (defect,) = row["provenance"]["defects"]
        assert defect["split"] == row["split"]
        folder = tmp_path / "recipe" / f"broken {row['concept']}"
        assert (folder / defect["id"]).is_file()
        assert str(tmp_path) not in json.dumps(row["provenance"])

    # Other photographs of the defect are no longer those of the version.
    Image.new("RGB", (64, 64), "red").save(tmp_path / "recipe" / "broken gear" / "0.png")
    where = "tiny", context.store, tmp_path / "again.png", tmp_path / "recipe"
    with pytest.raises(ImagesError, match=r"was made with other images of engine\.defects\.gear"):
        regenerate_sample(rows_of(version)[0]["sample_id"], *where)


def test_defects_without_splits_are_in_one_split_each(tmp_path: Path) -> None:
    """As photographs without splits are; each defect is a picture of its own."""
    recipe = write_all(tmp_path / "recipe", "copy_paste", splits={"train": 0.5, "test": 0.5})
    for place, name in enumerate(("good", "broken gear", "broken hook")):
        lines = (tmp_path / "recipe" / name / "metadata.jsonl").read_text().splitlines()
        bare = [{key: value for key, value in json.loads(line).items() if key != "split"} for line in lines]
        (tmp_path / "recipe" / name / "metadata.jsonl").write_text("\n".join(map(json.dumps, bare)) + "\n")
        if place:
            write_defects(tmp_path / "more" / name, 12, seed=40 * place)
            for file in (tmp_path / "more" / name).glob("*.png"):
                file.rename(tmp_path / "recipe" / name / f"more {file.name}")
            more = [{"file_name": f"more {n}.png", "mask": f"more {n}_mask.png"} for n in range(12)]
            with (tmp_path / "recipe" / name / "metadata.jsonl").open("a") as file:
                file.write("\n".join(map(json.dumps, more)) + "\n")
    splits: dict[str, set[str]] = {}
    for row in rows_of(build_here(prepare_build(str(recipe), str(tmp_path / "store")))):
        for defect in row["provenance"]["defects"]:
            splits.setdefault(defect["sha256"], set()).add(row["split"])
    assert len(splits) > 2
    assert all(len(own) == 1 for own in splits.values())
    assert len(set.union(*splits.values())) == 2


def test_the_documented_recipe_builds(tmp_path: Path) -> None:
    """With few images."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "how-to" / "defects.md").read_text(), re.DOTALL)
    (block,) = (block for block in blocks if "copy_paste" in block)
    recipe = yaml.safe_load(block)
    recipe["concepts"] = [each | {"requested": 2} for each in recipe["concepts"]]
    write_parts(tmp_path / "good", 3)
    write_defects(tmp_path / "scratches")
    write_defects(tmp_path / "dents", seed=9)
    (tmp_path / "copies.yaml").write_text(yaml.safe_dump(recipe))
    version = build_here(prepare_build(str(tmp_path / "copies.yaml"), str(tmp_path / "store")))
    assert {row["concept"] for row in rows_of(version)} == {"scratch", "dent"}


def test_a_sample_in_which_nothing_was_drawn_is_rejected_with_its_score(tmp_path: Path) -> None:
    """No pixel of these photographs differs by 99 in CIELAB from another."""
    write_parts(tmp_path / "recipe" / "good", 4)
    quality = {"gates": "none", "max_rounds": 1}
    recipe = write_pasting(tmp_path / "recipe", {"kind": "cut_paste", "min_change": 99}, quality=quality)
    context = prepare_build(str(recipe), str(tmp_path / "store"))
    store = Store.open(context.store)
    built = require_finished(walk(open_local(store), context))
    assert built.partitions
    for part in built.partitions:
        assert set(read_table(store, part.verdicts)["reason"].to_pylist()) == {"nothing_drawn"}
        for error in read_table(store, part.masks)["error"].to_pylist():
            assert error == "nothing was drawn: 0.0 % of its regions changed by 99 or more"


def test_a_whole_copy_is_labelled_in_the_shape_of_a_defect(tmp_path: Path) -> None:
    """At its own size and place, without a turn, the mask is the defect's."""
    still = {"mirror": False, "turn": 0, "scale": [1, 1], "shift": 0}
    engine = {**WHOLE, "regions": {"kind": "defects", **still}, "sources": {"folder": "equal", "masks": "ignore"}}
    write_parts(tmp_path / "recipe" / "equal", 6, 64, split=True, grouped=True)  # as large as those of defects
    recipe = write_all(tmp_path / "recipe", "copy_paste", engine=engine)
    for row in rows_of(build_here(prepare_build(str(recipe), str(tmp_path / "store")))):
        (defect,) = row["provenance"]["defects"]
        known = tmp_path / "recipe" / f"broken {row['concept']}" / defect["id"].replace(".png", "_mask.png")
        components = split_components(np.asarray(Image.open(known)) > 0)
        (own,) = (decode_rle(each["rle"], 64, 64) for each in row["instances"])
        assert any(np.array_equal(own, each) for each in components)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a generator": ({"kind": "cut_paste"}, {"generator": {"model": "catalog:workshop"}}, "draws without one"),
    "no generator": (
        {"kind": "inpaint", "steps": 2},
        {"partition_size": None},
        "generator: is missing; add it, engine inpaint",
    ),
    "a concept without defects": (
        {"kind": "copy_paste", "defects": {"gear": {"folder": "broken gear"}}},
        {},
        r"engine\.defects: 'hook' has no photographs to copy from",
    ),
    "defects of no concept": (
        {"kind": "copy_paste", "defects": {"rust": {"folder": "broken gear"}}},
        {},
        r"engine\.defects: 'rust' is no concept; the concepts are gear, hook",
    ),
    "defects without masks": (
        {"kind": "copy_paste", "defects": {"gear": {"folder": "bare"}, "hook": {"folder": "bare"}}},
        {},
        "no image with a mask",
    ),
    "no defect in a split": (
        {"kind": "copy_paste"},
        {"splits": {"train": 0.5, "validation": 0.5}},
        r"broken gear has no defect of split validation.*give each its split",
    ),
    "attributes": (
        {"kind": "cut_paste"},
        {"prompts": {"templates": ["a {concept} on {place}"], "attributes": {"place": ["wood"]}}},
        r"prompts\.attributes: engine cut_paste reads no prompt",
    ),
    "attention": ({"kind": "cut_paste"}, {"annotation": {"window": [0, 1]}}, r"annotation\.window has no effect"),
    "another annotation": (
        {"kind": "cut_paste"},
        {"annotation": {"kind": "cross_attention"}},
        r"annotation\.kind cross_attention: engine cut_paste masks what changed in the photograph",
    ),
    "regions of defects in another engine": (
        {"kind": "cut_paste", "regions": {"kind": "defects"}},
        {},
        r"engine\.regions\.kind: must be one of shapes, masks, references; found 'defects'",
    ),
    "falling sizes": (
        {"kind": "copy_paste", "regions": {"kind": "defects", "scale": [2, 1]}},
        {},
        r"engine\.regions\.scale.*the first number, 2, is above the second, 1",
    ),
    "a batch": ({"kind": "noise_texture", "batch_size": 4}, {}, r"engine.*batch_size.*"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_recipe_that_cannot_be_is_refused(case: str, tmp_path: Path) -> None:
    engine, changes, message = CASES[case]
    write_parts(tmp_path / "good", 2)
    for concept in ("gear", "hook"):
        write_defects(tmp_path / f"broken {concept}")
    (tmp_path / "bare").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "bare" / "0.png")
    with pytest.raises(UserError, match=message):
        prepare_build(str(write_pasting(tmp_path, engine, **changes)), str(tmp_path / "store"))
    assert not list((tmp_path / "store").rglob("*.*"))
