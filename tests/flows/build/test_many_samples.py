"""Builds of very many samples: counts are exact, and memory grows slowly enough for a million."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.operations.million import MEASURED, run_all

CONCEPTS, FEW, MANY = 20, 1000, 4000
BYTES_A_SAMPLE = 1300  # (2 GB - 0.6 GB of imports) / 1,100,000 samples


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_grows_by_little_a_sample(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    few, many = (run_all(tmp_path / str(wanted), CONCEPTS, wanted) for wanted in (FEW, MANY))
    more = many["status"]["samples"] - few["status"]["samples"]
    for name in MEASURED:
        growth = (many[name]["peak_mb"] - few[name]["peak_mb"]) * 2**20 / more
        record_property(name, growth)
        assert growth < BYTES_A_SAMPLE, f"{name} takes {growth:.0f} bytes a sample"
