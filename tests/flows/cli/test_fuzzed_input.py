"""Thousands of spoiled recipes and command lines: one clear error each, soon, and nothing written elsewhere."""

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tailforge.catalog.sources.recipes import load_recipe, load_training_recipe
from tailforge.catalog.store import Store
from tailforge.schemas.errors import UserError
from tests.flows.conftest import Command
from tests.support.drawn_version import draw_masks, write_version
from tests.support.fuzzed_commands import spoil_line
from tests.support.fuzzed_recipes import engine_recipes, spoil, training_recipes, write_text
from tests.support.photographs import write_photographs
from tests.support.tiny_recipes import write_recipe

HANGS_S = 240  # what takes so long hangs, on whatever machine
MOST_LINES = 15
BROKEN = "concepts: 3\n"
LIMITED = ("store", "out", "photos-recipe", "parts")  # folders that a command is told to write into, and defaults


@contextmanager
def no_hang(what: object) -> Iterator[None]:
    """Errors: AssertionError if the block takes longer than `HANGS_S`."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"hangs: {what!r:.2000}")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, HANGS_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def require_clear(text: str, what: object) -> None:
    """An error that a person can read: few lines, none of them endless, nothing that steers the terminal."""
    assert len(text.splitlines()) <= MOST_LINES, (what, text)
    assert max(map(len, text.splitlines()), default=0) < 2000, (what, text)
    assert "Traceback" not in text, (what, text)
    assert text.isprintable() or not set(text) - set("\n\t") & {chr(code) for code in range(32)}, (what, text)


def read_spoiled(kinds: dict[str, dict[str, Any]], load: Any, count: int, seed: int, folder: Path) -> Counter[str]:
    """How many spoiled recipes were refused and how many taken, by kind."""
    told, faults = Counter[str](), list[str]()
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        name = list(kinds)[number % len(kinds)]
        text = spoil(kinds[name], chance)
        write_text(folder / "spoiled.yaml", text)
        with no_hang(text):
            try:
                load(folder / "spoiled.yaml")
                told[f"{name} taken"] += 1
            except UserError as error:
                told[f"{name} refused"] += 1
                require_clear(str(error), text)
            except Exception as error:
                faults.append(f"{name} {seed} {number}: {type(error).__name__}: {error!s:.500}")
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults)
    return told


@pytest.mark.parametrize(
    ("count", "seed"), [(150, 1), pytest.param(1400, 2, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_spoiled_recipes_are_refused_in_few_words(count: int, seed: int, tmp_path: Path) -> None:
    kinds = engine_recipes()
    for name, recipe in kinds.items():
        write_text(tmp_path / "sound.yaml", spoil(recipe, _Sound()))
        assert load_recipe(str(tmp_path / "sound.yaml")), name
    told = read_spoiled(kinds, lambda path: load_recipe(str(path)), count, seed, tmp_path)
    print(dict(sorted(told.items())))
    assert all(told[f"{name} refused"] for name in kinds)
    assert sum(told.values()) == count


@pytest.mark.parametrize(
    ("count", "seed"), [(80, 1), pytest.param(800, 2, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_spoiled_training_recipes_are_refused_in_few_words(count: int, seed: int, tmp_path: Path) -> None:
    kinds = training_recipes()
    for name, recipe in kinds.items():
        write_text(tmp_path / "sound.yaml", spoil(recipe, _Sound()))
        assert load_training_recipe(tmp_path / "sound.yaml"), name
    told = read_spoiled(kinds, load_training_recipe, count, seed, tmp_path)
    print(dict(sorted(told.items())))
    assert all(told[f"{name} refused"] for name in kinds)


class _Sound(random.Random):
    """Chooses no mistake."""

    def choice(self, seq: Any) -> Any:
        return seq[0]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the commands: a store, a recipe that is none, photographs, a pipe and a looped link."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "out").mkdir()
    (folder / "broken.yaml").write_text(BROKEN)
    write_recipe(folder).rename(folder / "sound.yaml")  # there is no generator beside it
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    write_photographs(folder / "photos", {"gear": 7, "hook": 3})
    write_version(Store.open(str(folder / "store"), create=True), {"train": draw_masks(), "test": draw_masks()[:1]})
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return folder


def list_outside(root: Path) -> set[str]:
    """What lies below the folder, but for what the commands may write."""
    found = {str(path.relative_to(root)) for path in root.rglob("*")}
    return {path for path in found if not path.startswith(tuple(f"here/{name}" for name in LIMITED))}


def run_spoiled(words: list[str], command: Command) -> int:
    """The exit code of a spoiled command line, which ends soon and says clearly what is wrong."""
    with no_hang(words):
        code, out, err = command(*words)
    assert code in (0, 1, 2), code
    assert not code or err.startswith("error: "), err
    require_clear(err, words)
    assert "secret" not in out + err
    return code


def was_named(path: str, words: list[str]) -> bool:
    """Whether a path lies where a word of the line says, such as `--out nothing` or `--out ~`."""
    below = path.removeprefix("here/")
    named = ["home" if word == "~" else word for word in words if word]
    return any(below == word or below.startswith(f"{word}/") for word in named)


@pytest.mark.parametrize(
    ("count", "seed"), [(40, 1), pytest.param(1500, 2, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])]
)
def test_spoiled_command_lines_are_refused_in_few_words(
    count: int, seed: int, place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    before, ends, faults = list_outside(place.parent), Counter[str](), list[str]()
    for number in range(count):
        words = spoil_line(random.Random(f"{seed} {number}"))
        try:
            ends[f"exit {run_spoiled(words, command)}"] += 1
            made = list_outside(place.parent) - before
            before |= made
            assert not [path for path in made if not was_named(path, words)], (words, made)
        except Exception as error:
            faults.append(f"{words!r:.300}: {type(error).__name__}: {error!s:.500}")
    print(dict(sorted(ends.items())))
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults)
    assert ends["exit 2"] > count / 2
