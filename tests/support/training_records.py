"""Records of trainings, as training.json holds them."""

import json
from pathlib import Path
from typing import Any


def make_record(**changes: Any) -> dict[str, Any]:
    """Of an adaptation of the workshop's generator."""
    return {
        "format": "tailforge-training/1",
        "name": "rare-parts",
        "base": {"model": "catalog:workshop", "digest": "b" * 64, "training": None},
        "start": "base",
        "weights": "lora",
        "images": {"origin": "parts@1.2.0 (train)", "images": 48, "digest": "c" * 64},
        "structure": {"arm": "sadm", "share": 0.1},
        "steps": 300,
        "batch": 32,
        "seed": 5,
        "minutes": 7.5,
        "measures": {"denoising": [{"step": 300, "error": 0.25}]},
        "versions": {"torch": "2.7.1"},
        **changes,
    }


def write_record(generator: Path, **changes: Any) -> dict[str, Any]:
    """Put a record into a generator's folder; returns it."""
    record = make_record(**changes)
    (generator / "training.json").write_text(json.dumps(record), encoding="utf-8")
    return record
