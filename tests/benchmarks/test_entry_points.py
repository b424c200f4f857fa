"""Every `make bench-...` finds the program that it starts."""

import importlib
import re
from importlib.util import find_spec

import pytest

from tests.support.repository import ROOT

TARGETS = re.findall(r"bench-([a-z]+)", re.findall(r"^bench: (.*?) ##", (ROOT / "Makefile").read_text(), re.M)[0])


@pytest.mark.parametrize("name", TARGETS)
def test_a_benchmark_can_be_started(name: str) -> None:
    found = find_spec(f"tests.benchmarks.{name}")
    assert found is not None
    program = f"{found.name}.__main__" if found.submodule_search_locations else found.name
    assert callable(importlib.import_module(program).main)


def test_all_benchmarks_are_among_them() -> None:
    folders = {path.parent.name for path in (ROOT / "tests" / "benchmarks").glob("*/__main__.py")}
    assert folders <= set(TARGETS)
