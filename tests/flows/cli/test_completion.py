"""Bash completes commands, options, recipes, datasets and versions, with the script that the command installs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tailforge.catalog.sources.recipes import recipe_names
from tailforge.catalog.store import Store
from tests.support.fabricate import make_build, make_recipe, publish_build

PRESS = """
. "$HOME/.bashrc"
COMP_WORDBREAKS=${COMP_WORDBREAKS//@}
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_tailforge_completion tailforge
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with the completion installed, and a store with two versions in it."""
    folder = tmp_path_factory.mktemp("home")
    done = run_bash(folder, "tailforge --install-completion; true")
    assert "bash completion installed" in done.stdout, done.stderr
    store = Store.open(str(folder / "store"), create=True)
    for number in range(2):
        publish_build(make_build(store, make_recipe(name="parts", seed=number), {"gear": 2, "hook": 2}))
    return folder


def run_bash(home: Path, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a user of `home` does."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "--norc", "-c", script, "bash", *words]
    environment = os.environ | {"HOME": str(home), "PATH": path}
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)


def press_tab(home: Path, *words: str) -> list[str]:
    """Return what bash offers for the last word of a command line."""
    done = run_bash(home, PRESS, "tailforge", *words)
    assert not done.stderr
    return done.stdout.split()


def test_commands_and_options_are_completed(home: Path) -> None:
    assert press_tab(home, "pla") == ["plan"]
    assert press_tab(home, "build", "--runn") == ["--runner"]
    assert press_tab(home, "build", "--runner", "") == ["threads", "processes", "ray"]


def test_recipes_of_the_catalog_are_completed(home: Path) -> None:
    assert press_tab(home, "build", "work") == recipe_names()
    assert press_tab(home, "new", "mine", "--from", "workshop_r") == ["workshop_rare"]


def test_datasets_and_versions_of_the_store_are_completed(home: Path) -> None:
    assert press_tab(home, "show", "") == ["parts", "parts@1.0.0", "parts@2.0.0"]
    assert press_tab(home, "show", "--store", "store", "parts@2") == ["parts@2.0.0"]
    assert press_tab(home, "status", "pa") == ["parts", "parts@1.0.0", "parts@2.0.0"]


def test_files_are_left_to_the_shell(home: Path) -> None:
    """Nothing is offered for a path, a store in a network or a store that is none, and bash completes files."""
    for words in (("build", "./st"), ("list", "--store", "st"), ("show", "--store", "s3://bucket/x", "p"),
                  ("show", "--store", "missing", "p")):  # fmt: skip
        assert press_tab(home, *words) == []
    assert "-o default" in run_bash(home, '. "$HOME/.bashrc"; complete -p tailforge').stdout
    assert not (home / "missing").exists()
