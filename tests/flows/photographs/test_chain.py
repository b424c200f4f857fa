"""From photographs to a published version: the commands that `tailforge init` prints, in their order."""

import json
import shlex
from pathlib import Path

import pytest

from tailforge.catalog.sources.models import digest_model
from tailforge.catalog.sources.recipes import load_recipe
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tailforge.schemas.settings.licences import OtherLicence
from tests.flows.conftest import Command, rows_of
from tests.support.photographs import write_photographs

pytestmark = [
    pytest.mark.flow,
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]
FEW_STEPS = (
    "generator.adapt.learning={steps: 2, batch: 2, learning_rate: 0.0001}",
    "generator.adapt.validation={every: 2, per_class: 1, steps: 2}",
)
QUICK = ("engine.steps=2", "engine.batch_size=2", "quality.max_rounds=1", "partition_size=2")
SHORT = ("--steps", "2", "--checks", "1", "--batch", "4", "--seeds", "2", "--shares", "0.5", "--augmentations", "1")


def put(*overrides: str) -> list[str]:
    return [word for each in overrides for word in ("--set", each)]


def run(command: Command, line: str, *words: str | Path) -> str:
    """Run a printed command with further words; return what it prints."""
    program, *own = shlex.split(line)
    assert program == "tailforge"
    code, out, err = command(*own, *words)
    assert code == 0, err
    return out


@pytest.mark.parametrize(
    ("size", "mode", "generator", "drawn"),
    [
        ((96, 96), "RGB", None, (64, 64)),
        ((24, 40), "L", None, (24, 40)),
        ((48, 48), "RGB", "tiny", (32, 32)),
    ],
    ids=["colour", "grey and not square", "a named generator"],
)
def test_the_printed_commands_publish_a_version(
    size: tuple[int, int],
    mode: str,
    generator: str | None,
    drawn: tuple[int, int],
    command: Command,
    tiny_generator: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_photographs(tmp_path / "photos", {"gear_wheel": 8, "bench": 5}, size=size, mode=mode)
    named = [] if generator is None else ["--generator", str(tiny_generator)]
    code, out, err = command("init", "photos", "--out", "start", "--json", *named)
    assert code == 0, err
    plan, build, evaluate = json.loads(out)["commands"]

    shorter = put("concepts.bench.requested=2", *QUICK, *FEW_STEPS)
    assert "2 images of 1 concept requested" in run(command, plan, "--store", "store", *shorter)
    made = json.loads(run(command, build, "--store", "store", "--json", *shorter))
    rows = rows_of(made)
    assert {row["caption"] for row in rows} == {"a photo of a bench"}
    assert {(row["width"], row["height"]) for row in rows} == {drawn}
    (model,) = Path("store/artifacts/adaptations").glob("*/generator")
    digest = digest_model(model)
    assert {json.loads(row["provenance"])["generator"]["digest"] for row in rows} == {digest}
    assert verify(Store.open("store"), "photos") == []

    # A class of five photographs has one in each split; then an evaluation is told too.
    assert json.loads(run(command, evaluate, "--store", "store", "--json", *SHORT))["version"] == "photos@1.0.0"


def test_a_person_is_told_what_was_found_and_what_comes_next(command: Command, tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", {"gear": 8, "[red]hook": 2})
    (source / "gear" / "broken.png").write_bytes(b"x")
    code, out, err = command("init", source, "--out", tmp_path / "start")
    assert code == 0, err
    for words in (
        "10 photographs, 2 classes",
        "class '[red]hook' is concept 'red hook'",
        "cannot be decoded: 1",
        "next:",
    ):
        assert words in out
    assert f"tailforge plan {tmp_path / 'start' / 'recipe.yaml'}" in out


@pytest.mark.parametrize(
    ("words", "found", "shown"),
    [
        ((), "unknown", "unknown"),
        (("--license", "cc-by-4.0"), "CC-BY-4.0", "CC-BY-4.0"),
        (("--license", "Ours: ask us"), OtherLicence(name="Ours: ask us"), "Ours: ask us"),
    ],
)
def test_the_recipe_states_the_licence_of_the_photographs(
    words: tuple[str, ...], found: str | OtherLicence, shown: str, command: Command, tmp_path: Path
) -> None:
    source = write_photographs(tmp_path / "photos", {"gear": 30, "hook": 5})
    code, _, err = command("init", source, "--out", tmp_path / "start", *words)
    assert code == 0, err
    recipe = load_recipe(str(tmp_path / "start" / "recipe.yaml")).recipe
    assert recipe.photographs == {"training": found, "references": found}
    assert f"<dd>{shown}</dd>" in (tmp_path / "start" / "photographs.html").read_text()
    assert ("nobody said under which licence" in (tmp_path / "start" / "recipe.yaml").read_text()) == (not words)


def test_a_mistake_is_one_line(command: Command, tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", {"gear": 2, "hook": 2})
    code, out, err = command("init", source, "--out", tmp_path / "start")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "no tail to fill" in err
    code, out, err = command("init", "nowhere", "--out", tmp_path / "start")
    assert (code, out) == (2, "")
    assert "nowhere does not exist; give a folder of images" in err
    code, out, err = command("init", source, "--out", tmp_path / "start", "--license", " ")
    assert (code, out) == (2, "")
    assert "give an SPDX identifier such as CC-BY-4.0" in err
