"""The sets of solar cells: smaller ones are part of larger ones, and no defect is in a good cell."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tailforge.catalog.images.reader import open_images
from tailforge.schemas.recipe import parse_recipe
from tests.benchmarks.defects.cells import CLASSES, WAYS, find_file, recipe, write_tables


@pytest.mark.skipif(find_file() is None, reason="needs solar_cells.parquet in the folder TAILFORGE_DATA")
def test_a_smaller_set_is_part_of_a_larger_one(tmp_path: Path) -> None:
    kept = {}
    for count in (10, 30):
        write_tables(count, tmp_path / str(count))
        rows = pq.read_table(tmp_path / str(count) / "real.parquet").to_pylist()
        kept[count] = {(each["split"], each["image"]) for each in rows}
        good = open_images(tmp_path / str(count) / "good.parquet")
        masks = [record.read_mask() for record in good]
        assert len(good) == 386
        assert not any(mask is None or mask.any() for mask in masks)
        for name in CLASSES:
            table = pq.read_table(tmp_path / str(count) / f"{name}.parquet").to_pylist()
            assert 0 < len(table) <= count
            assert {("train", each["image"]) for each in table} <= kept[count]
    assert kept[10] < kept[30]
    assert len(kept[30]) - len(kept[10]) == 20


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_draw_is_a_recipe(way: str) -> None:
    made = parse_recipe(recipe(f"cells-{way}", way), way)
    assert made.engine.kind == ("noise_texture" if way == "noise_texture" else "copy_paste")
    assert [concept.name for concept in made.concepts] == list(CLASSES)
