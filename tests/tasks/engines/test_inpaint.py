"""Builds that draw into photographs: bytes outside the regions, splits, labels, lineage, and the same image again."""

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
from tailforge.schemas.effort import count_passes
from tailforge.schemas.errors import ImagesError, RecipeError, UserError
from tailforge.tasks.artifacts.contract import read_table
from tailforge.tasks.engines.work.drawing import choose_sample_regions, choose_source
from tests.support.inpaint_recipes import require_photograph_outside, rows_of, write_inpaint, write_parts
from tests.support.local_builds import build_here
from tests.support.repository import ROOT
from tests.support.tiny_recipes import write_recipe

COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version whose photographs are larger than the generator's images, so that a window of each is drawn."""
    folder = tmp_path_factory.mktemp("inpaint")
    write_parts(folder / "recipe" / "good", 6, 96, split=True, grouped=True)
    return build_here(prepare_build(str(write_inpaint(folder / "recipe")), str(folder / "store")))


def home(made: Path) -> Path:
    return made.parents[3]


def test_outside_the_regions_every_published_pixel_is_the_photographs(made: Path) -> None:
    rows = require_photograph_outside(home(made), made)
    assert len(rows) == 8
    assert all(0 <= row["mask_agreement"] <= 1 for row in rows)


def test_a_sample_is_in_the_split_of_its_photograph(made: Path) -> None:
    rows = rows_of(made)
    assert {row["split"] for row in rows} == {"train", "test"}
    for row in rows:
        source = row["provenance"]["source"]
        assert row["split"] == source["split"] == ("test" if source["group"] == "object 2" else "train")


def test_a_composite_is_declared_wherever_its_source_is(made: Path) -> None:
    assert {row["digital_source_type"] for row in rows_of(made)} == {COMPOSITE}
    data = b"".join(path.read_bytes() for path in made.glob("shards/*.tar"))
    assert data.count(COMPOSITE.encode()) == 8
    assert b"digitalsourcetype/trainedAlgorithmicMedia" not in data
    card = (made / "README.md").read_text()
    assert "compositeWithTrainedAlgorithmicMedia" in card
    assert "No image shows anything that exists" not in card
    assert "- inpainting: CC0-1.0" in card


def test_lineage_names_the_photographs_and_no_path(made: Path) -> None:
    context = prepare_build(str(home(made) / "recipe" / "tiny.yaml"), str(home(made) / "store"))
    digest = context.images["engine.sources"].digest
    store = Store.open(str(home(made) / "store"))
    assert load_dataset(store, "tiny").lineage["images"] == {"engine.sources": digest}
    assert digest in (made / "croissant.json").read_text()
    assert verify(store, "tiny") == []
    for row in rows_of(made):
        assert re.fullmatch("[0-9a-f]{64}", row["provenance"]["regions_sha256"])
        assert str(home(made)) not in json.dumps(row["provenance"])


def test_plan_and_status_know_the_engine(made: Path) -> None:
    context = prepare_build(str(home(made) / "recipe" / "tiny.yaml"), str(home(made) / "store"))
    assert plan_build(context).complete
    stages = {each["stage"]: each for each in build_status(context)["stages"]}
    assert (stages["samples"]["to_do"], stages["masks"]["to_do"]) == (0, 0)
    engine = {"kind": "inpaint", "steps": 20, "guidance": 1, "strength": 0.5, "resample": 3}
    assert count_passes({"engine": engine}) == (30, 0)


def test_an_image_is_made_again_from_the_same_photographs_alone(made: Path, tmp_path: Path) -> None:
    where = "tiny", str(home(made) / "store"), tmp_path / "again.png", home(made) / "recipe"
    assert regenerate_sample(rows_of(made)[0]["sample_id"], *where)["equal"] is True
    good = home(made) / "recipe" / "good" / "000.png"
    before = good.read_bytes()
    Image.new("RGB", (96, 96), "red").save(good)
    with pytest.raises(ImagesError, match=r"was made with other images of engine\.sources"):
        regenerate_sample(rows_of(made)[0]["sample_id"], *where)
    good.write_bytes(before)


def test_photographs_without_splits_keep_their_groups_together(tmp_path: Path) -> None:
    write_parts(tmp_path / "recipe" / "good", 8, grouped=True)
    recipe = write_inpaint(tmp_path / "recipe", {"steps": 2}, splits={"train": 0.5, "test": 0.5})
    splits: dict[str, set[str]] = {}
    for row in rows_of(build_here(prepare_build(str(recipe), str(tmp_path / "store")))):
        splits.setdefault(row["provenance"]["source"]["group"], set()).add(row["split"])
    assert len(splits) > 2
    assert all(len(own) == 1 for own in splits.values())
    assert len(set.union(*splits.values())) == 2


def test_a_sample_in_which_nothing_was_drawn_is_rejected_with_its_score(tmp_path: Path) -> None:
    """No colour changes by 80 in CIELAB after so little noise."""
    write_parts(tmp_path / "recipe" / "good", 4)
    quality = {"gates": "none", "max_rounds": 1}
    recipe = write_inpaint(tmp_path / "recipe", {"steps": 10, "strength": 0.1, "min_change": 80}, quality=quality)
    context = prepare_build(str(recipe), str(tmp_path / "store"))
    store = Store.open(context.store)
    built = require_finished(walk(open_local(store), context))
    assert built.partitions
    for part in built.partitions:
        assert set(read_table(store, part.verdicts)["reason"].to_pylist()) == {"nothing_drawn"}
        for error in read_table(store, part.masks)["error"].to_pylist():
            assert re.fullmatch(r"nothing was drawn: \d\.\d % of its regions changed by 80 or more", error)


def test_the_documented_recipe_builds(tmp_path: Path) -> None:
    """With few images and steps."""
    block, *_ = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "how-to" / "defects.md").read_text(), re.DOTALL)
    recipe = yaml.safe_load(block)
    recipe["engine"] |= {"steps": 4, "batch_size": 2}
    recipe["concepts"] = [each | {"requested": 2} for each in recipe["concepts"]]
    write_parts(tmp_path / "good", 3)
    (tmp_path / "scratches.yaml").write_text(yaml.safe_dump(recipe))
    version = build_here(prepare_build(str(tmp_path / "scratches.yaml"), str(tmp_path / "store")))
    assert {row["concept"] for row in rows_of(version)} == {"scratch", "dent"}


def test_regions_come_from_masks_and_from_their_statistics(tmp_path: Path) -> None:
    """The masks are those of parts, so they are large; `gear` takes them as they are, `hook` their statistics."""
    write_parts(tmp_path / "recipe" / "good", 3)
    write_parts(tmp_path / "recipe" / "known", 2)
    regions = {"kind": "masks", "folder": "known"}
    engine = {"steps": 2, "regions": regions, "concept_regions": {"hook": regions | {"kind": "references"}}}
    context = prepare_build(str(write_inpaint(tmp_path / "recipe", engine)), str(tmp_path / "store"))
    assert set(context.images) == {"engine.sources", "engine.regions", "engine.concept_regions.hook"}
    assert rows_of(build_here(context))
    masks = [np.asarray(Image.open(file)) > 0 for file in (tmp_path / "recipe" / "known").glob("*_part.png")]
    source = choose_source(context, "0" * 16)
    whole = np.any(choose_sample_regions(context, "gear", "0" * 16, source), axis=0)
    assert any(np.array_equal(whole, mask & source.part) for mask in masks)


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "no licence": ({"sources": {"folder": "good", "license": "free"}}, r"engine\.sources\.license.*no SPDX"),
    "no photographs": ({"sources": {"folder": "nowhere", "license": "MIT"}}, r"engine\.sources.*does not exist"),
    "a concept that is none": (
        {"concept_regions": {"rust": {"shapes": ["blob"]}}},
        "engine.concept_regions: 'rust' is no concept; the concepts are gear, hook",
    ),
    "areas the wrong way round": ({"regions": {"area": [0.3, 0.1]}}, r"the first number, 0\.3, is above the second"),
    "regions of images without masks": ({"regions": {"kind": "masks", "folder": "bare"}}, "no image with a mask"),
    "no step": ({"strength": 0.1}, r"strength 0\.1 leaves no step of 4"),
    "a group in two splits": ({"sources": {"folder": "mixed", "license": "MIT"}}, "object 0 is in the splits"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_recipe_that_cannot_be_is_refused(case: str, tmp_path: Path) -> None:
    engine, message = CASES[case]
    write_parts(tmp_path / "good", 2)
    (tmp_path / "bare").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "bare" / "0.png")
    lines = (write_parts(tmp_path / "mixed", 2, split=True, grouped=True) / "metadata.jsonl").read_text().splitlines()
    lines[0] = lines[0].replace("train", "test")
    (tmp_path / "mixed" / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=message):
        prepare_build(str(write_inpaint(tmp_path, engine)), str(tmp_path / "store"))
    assert not list((tmp_path / "store").rglob("*.*"))


def test_labels_of_changes_need_photographs(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, annotation={"kind": "changed_region"})
    with pytest.raises(RecipeError, match="engine plain draws into no photographs"):
        prepare_build(str(recipe), str(tmp_path / "store"))
