"""Words that a command line cannot mean end with one line and exit code 2; what is asked of no store is answered."""

import json
from importlib import metadata
from pathlib import Path

import pytest

from tests.flows.conftest import Command


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["build", "workshop", "--runner", "gpu"],
            "'gpu' is not one of 'threads', 'processes', 'ray'; `tailforge build",
        ),
        (
            ["build"],
            "missing argument 'recipe' (name in catalog/recipes, or path of a YAML file); as in `tailforge build "
            "workshop`; `tailforge build --help` explains it",
        ),
        (
            ["diff", "parts"],
            "missing argument 'after' (newer version: dataset@version; a dataset or recipe alone means the "
            "latest); as in `tailforge diff workshop@1.0.0 workshop --rows`; `tailforge diff --help` explains it",
        ),
        (["buidl", "workshop"], "no such command 'buidl'"),
        (["build", "workshop", "--stor", "x"], "no such option: --stor"),
        (["build", "workshop", "--workers", "0"], "--workers: must be 1 or more; found 0"),
        (["gc", "--days", "-1"], "--days: must be 1 or more; found -1; `tailforge gc --help` explains it"),
        (["gc", "--days", "many"], "--days: must be a number; found 'many'"),
        (["setup", "--gpu", "1.5"], "--gpu: must be a whole number; found 1.5"),
        (["distill", "parts", "--test", "x", "--images", "0"], "--images: must be 1 or more; found 0"),
        (["plan", "workshop", "--machine-price", "-1"], "--machine-price: must be 0 or more; found -1"),
        (["export", "workshop", "--format", "coco"], "missing option '--out'"),
        (["show", "workshop", "again"], "unexpected extra argument"),
        (["review", "workshop", "--port", "99999"], "--port: must be 65535 or less; found 99999"),
        (["train", "workshop"], "workshop of the catalog is a recipe of a build; give `tailforge build workshop`"),
        (["build", "adapt-workshop"], "is a training recipe; give `tailforge train adapt-workshop`"),
        (["plan", "adapt-workshop"], "is a training recipe; give `tailforge train adapt-workshop`"),
        (["status", "adapt-workshop"], "is a training recipe; give `tailforge train adapt-workshop`"),
        (["build", "workshop", "--runner", "x" * 100_000], "xxx..."),
        (["build", "workshop", "--devices", "cpu:" + "9" * 300], "--devices: must have 100 characters at most; found"),
        (["rerun", "workshop", "--runner", "ray", "--ray-address", "h" * 2000], "--ray-address: must have 1000 char"),
        (["build", "workshop", "--runner", "a\nb"], "'--runner'"),
        (["build", "workshop", "--runner", "a\nb\x1b[31m"], "word 4 of the command holds the control character U+001B"),
    ],
)
def test_a_wrong_word_is_one_line(command: Command, words: list[str], message: str) -> None:
    code, out, err = command(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert err.rstrip("\n").isprintable()
    assert message in err
    assert len(err) < 500


def test_help_and_version(command: Command) -> None:
    assert command("--version") == (0, f"tailforge {metadata.version('tailforge')}\n", "")
    code, out, _ = command("--help")
    assert code == 0
    assert "Build versioned synthetic image datasets" in out
    code, out, _ = command("build", "--help")
    assert code == 0
    assert "Example: tailforge build workshop" in out.replace("`", "")
    code, out, err = command()
    assert (code, err) == (2, "")
    assert "Commands" in out


def test_a_store_that_is_a_file_or_missing(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words in (["list"], ["show", "parts"], ["status", "workshop"], ["gc"]):
        code, out, err = command(*words, "--store", tmp_path / "file")
        assert (code, out) == (2, "")
        assert "it is a file" in err
    assert command("list", "--store", "/dev/null")[0] == 2
    for words in (["list"], ["show", "parts"], ["gc"], ["verify", "parts"]):
        code, out, err = command(*words, "--store", tmp_path / "missing")
        assert (code, out) == (2, "")
        assert f"store {tmp_path / 'missing'} does not exist" in err
    (tmp_path / "empty").mkdir()
    assert command("list", "--store", tmp_path / "empty", "--json")[:2] == (0, "[]\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def test_a_tilde_that_no_shell_replaced_is_the_home(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "store").mkdir()
    for words in (["--store=~/store"], ["--store", "~/store"]):
        code, out, err = command("list", "--json", *words)
        assert code == 0, err
        assert json.loads(out) == []
    monkeypatch.setenv("TAILFORGE_STORE", "~/store")
    assert command("list", "--json")[:2] == (0, "[]\n")
    code, _, err = command("plan", "~/own.yaml")
    assert code == 2
    assert f"{tmp_path}/own.yaml" in err
