"""What only looks at a build imports none of the libraries that its work needs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.conftest import Command, start_from_build
from tests.support.repository import ROOT

HEAVY = {"torch", "diffusers", "transformers", "prefect"}
IMPORTED = re.compile(r"^import time: .*\| +([\w.]+)$", re.MULTILINE)

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]


def imports(*words: str | Path, code: int = 0) -> set[str]:
    """The packages that the command imports in a process of its own."""
    command = [sys.executable, "-X", "importtime", "-m", "tailforge", *map(str, words)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == code, ended.stdout
    found = {name.partition(".")[0] for name in IMPORTED.findall(ended.stderr)}
    assert "tailforge" in found
    return found


@pytest.mark.parametrize("words", [["--help"], ["plan", "--help"], ["--version"]], ids=" ".join)
def test_help_knows_no_data(words: list[str]) -> None:
    assert not imports(*words) & {*HEAVY, "numpy", "pyarrow"}


def test_the_list_of_commands_needs_no_settings() -> None:
    assert "pydantic" not in imports("--help")


@pytest.mark.parametrize("command", ["plan", "status", "build", "rerun"])
def test_a_mistyped_recipe_is_refused_before_any_stage_is_imported(command: str, tmp_path: Path) -> None:
    part = ["--failed-samples"] if command == "rerun" else []
    assert not imports(command, "workshpo", "--store", tmp_path / "store", *part, code=2) & {*HEAVY, "scipy"}


@pytest.mark.parametrize("words", [["plan"], ["status"], ["rerun", "--failed-samples", "--dry-run"]], ids=" ".join)
def test_a_build_is_planned_without_the_libraries_of_its_work(words: list[str], tmp_path: Path) -> None:
    assert not imports(words[0], "workshop", "--store", tmp_path / "store", *words[1:]) & HEAVY


def test_a_finished_build_is_looked_at_without_the_libraries_of_its_work(
    command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    start_from_build(command, tiny_recipe, store)
    for words in (["plan"], ["status"], ["rerun", "--stage", "masks", "--dry-run"]):
        assert not imports(words[0], tiny_recipe, "--store", store, *words[1:]) & HEAVY, words
    for words in (["list"], ["show", "tiny"], ["verify", "tiny"], ["report", "tiny"]):
        assert not imports(*words, "--store", store) & HEAVY, words
