"""A published version as far as its record and its tables go: no shards."""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tailforge.catalog.registry import DATASETS
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Changes, Counts, Dataset
from tailforge.schemas.recipe import Recipe


def publish_tables(
    store: Store, recipe: Recipe, version: str, manifest: pa.Table, rejects: pa.Table, **lineage: Any
) -> str:
    """Write dataset.json, manifest.parquet and rejects.parquet; the folder."""
    folder = f"{DATASETS}/{recipe.name}/{version}"
    write_tables(store, folder, manifest, rejects)
    dataset = Dataset(
        name=recipe.name,
        version=version,
        created="2026-11-22T10:00:00+00:00",
        changes=Changes(),
        counts=Counts(samples=len(manifest), rejected=len(rejects), by_split={}, by_concept={}),
        fields=("cls", "json", "png", "seg.png", "txt"),
        classes=tuple(concept.name for concept in recipe.concepts),
        recipe=recipe.model_dump(mode="json"),
        lineage={"fingerprints": {}, **lineage},
        shards=(),
        files={},
    )
    store.write_bytes(f"{folder}/dataset.json", json.dumps(dataset.model_dump(mode="json")).encode())
    return folder


def write_tables(store: Store, folder: str, manifest: pa.Table, rejects: pa.Table) -> None:
    """manifest.parquet and rejects.parquet."""
    for name, table in (("manifest", manifest), ("rejects", rejects)):
        out = io.BytesIO()
        pq.write_table(table, out)
        store.write_bytes(f"{folder}/{name}.parquet", out.getvalue())
