"""Read the provenance column of MANIFEST and REJECTS."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa


def origins_by_concept(tables: Sequence[pa.Table], mark: str) -> dict[str, list[Mapping[str, Any]]]:
    """Return the provenance of images with the entry `mark`, by concept in the order of the tables."""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for table in tables:
        for concept, text in zip(table["concept"].to_pylist(), table["provenance"].to_pylist(), strict=True):
            origin = read_origin(text)
            if mark in origin:
                found[concept].append(origin)
    return dict(found)


def read_origin(text: str | None) -> dict[str, Any]:
    """Return the provenance of one image; empty without one."""
    origin: dict[str, Any] = json.loads(text or "{}")
    return origin
