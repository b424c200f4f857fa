"""Prompts whose concept the text encoder does not read are told by plan and build, and none of them is drawn."""

import json
from pathlib import Path

import pytest

from tailforge.flows.build.read_prompts import note_cut_captions
from tailforge.schemas.jobs import ResolvedModel
from tests.flows.conftest import Command, rows_of
from tests.support.tiny_recipes import write_recipe

LONG = "a photo of a bench " + "on a wooden bench " * 5 + "and a {concept}"
ENDLESS = "a photo of a {concept} " + "on a wooden bench " * 5


def write(folder: Path, *templates: str) -> Path:
    return write_recipe(
        folder,
        concepts=[{"name": "gear", "requested": 4}],
        splits=None,
        prompts={"templates": list(templates)},
        quality={"near_duplicates": None, "oversample": 1.0, "max_rounds": 1},
    )


@pytest.mark.flow
@pytest.mark.usefixtures("prefect_server")
def test_they_are_named_before_the_build_and_left_out(
    command: Command, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailforge.flows.build_dataset.console_shows_logs", lambda: False)  # as the command has it
    recipe = write(tiny_recipe.parent, "a photo of a {concept}", LONG, ENDLESS)
    words = [recipe, "--store", tmp_path / "store", "--json"]
    code, out, err = command("plan", *words)
    assert code == 0, err
    planned = json.loads(out)
    assert planned["unread_prompts"] == {"gear": 1}
    unread, cut = planned["notes"]
    assert "1 prompt too long: the generator's text encoder reads 16 tokens, and the concept is cut off" in unread
    assert "'a photo of a bench on a wooden bench" in unread
    assert "the end is not drawn: 'a photo of a gear on a wooden" in cut
    code, out, err = command("build", *words)
    assert code == 0, err
    assert unread in err
    made = json.loads(out)
    assert made["unread_prompts"] == {"gear": 1}
    captions = {row["caption"] for table in ("manifest", "rejects") for row in rows_of(made, table)}
    assert captions == {"a photo of a gear", ENDLESS.format(concept="gear")}
    summary = json.loads((tmp_path / "store/datasets/tiny/1.0.0/report/summary.json").read_text())
    assert any("1 prompt too long for the text encoder" in each["text"] for each in summary["verdict"]["findings"])
    row = rows_of(made)[0]
    again = ["--dataset", "tiny", "--store", tmp_path / "store", "--folder", recipe.parent, "--json"]
    code, out, err = command("regenerate", row["sample_id"], *again, "--out", tmp_path / "again.png")
    assert (code, json.loads(out)["equal"]) == (0, True), err


@pytest.mark.parametrize("word", ["plan", "build"])
def test_a_concept_that_is_never_read_is_an_error(
    command: Command, tiny_recipe: Path, tmp_path: Path, word: str
) -> None:
    code, _, err = command(word, write(tiny_recipe.parent, LONG), "--store", tmp_path / "store")
    assert code == 2
    assert "concept 'gear': the generator's text encoder reads 16 tokens" in err
    assert "put {concept} nearer to the start" in err
    assert not list((tmp_path / "store").glob("artifacts/samples/*/*"))


def test_captions_that_are_cut_are_counted_with_the_limit(tiny_generator: Path) -> None:
    model = ResolvedModel(path=str(tiny_generator), digest="tiny")
    long = "a photo of a gear " + "on a wooden bench " * 5
    assert note_cut_captions(model, ["a gear", "a hook"]) == ""
    assert note_cut_captions(model, [long, "a gear", long]).startswith(
        "2 of 3 captions too long: the generator's text encoder reads 16 tokens, and nothing is learnt from what "
        "stands behind: 'a photo of a gear on a wooden bench"
    )
