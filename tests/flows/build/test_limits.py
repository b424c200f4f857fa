"""A build that stops at a limit says why and what is left, and ends in the bytes of one that never stopped."""

import json
from pathlib import Path

import pytest

from tailforge.catalog.store import Store
from tailforge.flows.build.drive import Drive
from tailforge.flows.build.prepare import prepare_build
from tailforge.flows.build.spending import Spending
from tailforge.flows.build.walk import walk
from tailforge.flows.samples.remake import run_here
from tailforge.schemas.errors import LimitReachedError
from tailforge.schemas.prices import Limits
from tests.flows.conftest import Command, build
from tests.support.steered_recipes import steered_recipe, write_renders
from tests.support.tiny_recipes import write_recipe

QUALITY = {
    "gates": {"brightness": {"min_quantile": 0.75}},  # one of the first four passes
    "near_duplicates": None,
    "oversample": 1.0,
    "max_rounds": 2,
}


def count(store: Path, stage: str) -> int:
    """Return the finished partitions of a stage."""
    return len(list(store.glob(f"artifacts/{stage}/*/part-*.json")))


def published(store: Path) -> dict[str, bytes]:
    """Return the rows and the images of the version: all files but those that hold times."""
    (folder,) = store.glob("datasets/tiny/1.*")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".tar", ".parquet")
    }


@pytest.mark.flow
@pytest.mark.usefixtures("prefect_server")
def test_a_build_in_pieces_ends_in_equal_bytes(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    store, whole = tmp_path / "store", tmp_path / "whole"
    words = ["build", tiny_recipe, "--store", store, "--machine-price", "0.5"]
    code, out, err = command(*words, "--max-images", "9")
    assert (code, out) == (3, ""), err
    error = err[err.index("error:") :]
    assert "stopped: --max-images 9 leaves 1, and the next work draws 4. Finished work is kept. Left: " in error
    assert "images to draw, wall time" in error
    assert "machine: " in error
    assert error.rstrip().endswith("The same command goes on")
    assert (count(store, "samples"), count(store, "verdicts")) == (2, 2)
    assert not list(store.glob("datasets/tiny/1.*"))

    code, _, err = command(*words, "--max-hours", "0")
    assert (code, "--max-hours 0 leaves" in err) == (3, True)
    assert count(store, "samples") == 2

    code, out, err = command(*words, "--max-hours", "9", "--max-cost", "9", "--json")
    assert code == 0, err
    assert json.loads(out)["finished_before"]["samples"] == 2
    build(command, tiny_recipe, whole)
    assert published(store) == published(whole)


@pytest.mark.flow
@pytest.mark.usefixtures("prefect_server")
def test_a_round_beyond_the_limit_is_announced_and_begins_by_a_word(
    command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    concepts = [{"name": "gear", "requested": 3}]
    recipe = write_recipe(
        tiny_recipe.parent, concepts=concepts, quality=QUALITY, splits=None, prompts={"templates": ["a {concept}"]}
    )
    store = tmp_path / "store"
    words = ["build", recipe, "--store", store, "--max-images", "9"]
    code, _, err = command(*words)
    assert code == 3
    assert "stopped: round 2 would draw 12 images in about " in err
    assert "but --max-images 9 leaves 5, and the next work draws 12; --yes begins the round and draws what fits" in err
    assert count(store, "samples") == 1

    code, _, err = command(*words, "--yes")
    assert (code, "stopped: --max-images 9 leaves 1" in err) == (3, True), err
    assert count(store, "samples") == 3
    # What is left of the round fits.
    assert command(*words)[0] == 0
    assert count(store, "samples") == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--max-cost", "3"], "--max-cost needs a price: give --accelerator-price or --machine-price"),
        (["--max-images", "0"], "--max-images"),
        (["--max-hours", "-1"], "--max-hours"),
        (["--max-cost", "nan", "--machine-price", "1"], "--max-cost"),
    ],
)
def test_limits_that_cannot_be_are_refused(
    words: list[str], told: str, command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    code, _, err = command("build", tiny_recipe, "--store", tmp_path / "store", *words)
    assert (code, told in err) == (2, True), err
    assert not (tmp_path / "store").exists()


def test_a_steered_build_announces_its_rounds_too(tmp_path: Path) -> None:
    write_renders(tmp_path / "real")
    steered_recipe(tmp_path)
    context = prepare_build(str(tmp_path / "steered.yaml"), str(tmp_path / "store"))
    store = Store.open(context.store)

    def run(images: int, *, any_cost: bool) -> None:
        spending = Spending(Limits(images=images), "samples")
        drive = Drive(store, lambda step: run_here(store, step), spending=spending)
        walk(drive, context, any_cost=any_cost)

    with pytest.raises(LimitReachedError, match=r"^round 2 would draw 8 images.* but --max-images 12 leaves 4, and"):
        run(12, any_cost=False)
    assert count(tmp_path / "store", "samples") == 2
    with pytest.raises(LimitReachedError, match=r"^--max-images 8 leaves 0, and the next work draws \d"):
        run(8, any_cost=True)
    assert count(tmp_path / "store", "samples") == 3
