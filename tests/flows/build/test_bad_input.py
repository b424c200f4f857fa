"""Words of the command line and stores that cannot be used end at once, with one message and exit code 2."""

import os
from pathlib import Path

import pytest

from tests.flows.conftest import Command


@pytest.mark.parametrize(
    ("text", "message"),
    [("name: [", "not readable as YAML"), ("- a\n- b\n", "mapping"), ("", "mapping"), ("seed: 1\nseed: 2\n", "twice")],
)
def test_a_file_that_is_no_recipe_is_refused(text: str, message: str, tiny_recipe: Path, command: Command) -> None:
    tiny_recipe.write_text(text)
    code, _, err = command("build", tiny_recipe, "--store", tiny_recipe.parent / "store")
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "no-such-recipe"], "no-such-recipe"),
        (["build", "{recipe}", "--set", "seed"], "--set"),
        (["build", "{recipe}", "--set", "concepts.bolt.requested=3"], "bolt"),
        (["rerun", "{recipe}", "--stage", "painting"], "painting"),
        (["show", "nothing"], "nothing"),
        (["show", "../../nothing"], "nothing"),
        (["build", "{recipe}", "--store", "memory://store"], "ends with the process; give a folder"),
        (["verify", "nothing"], "nothing"),
        (["report", "nothing@1.0.0"], "nothing"),
        (["diff", "nothing@1.0.0", "nothing@2.0.0"], "nothing"),
        (["regenerate", "0123456789abcdef", "--dataset", "nothing"], "nothing"),
        (["train", "no-such-recipe"], "no-such-recipe"),
    ],
)
def test_names_that_do_not_exist(arguments: list[str], message: str, tiny_recipe: Path, command: Command) -> None:
    words = [word.format(recipe=tiny_recipe) for word in arguments]
    if words[0] != "train" and "--store" not in words:
        words += ["--store", str(tiny_recipe.parent / "store")]
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_a_store_under_a_file_is_refused(tiny_recipe: Path, command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = command("build", tiny_recipe, "--store", tmp_path / "file" / "store")
    assert code == 2
    assert "cannot be written" in err


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/sys").is_dir(), reason="needs a read-only file system")
def test_a_read_only_store_is_refused(tiny_recipe: Path, command: Command) -> None:
    code, _, err = command("build", tiny_recipe, "--store", "/proc/sys/tailforge-store")
    assert code == 2
    assert "cannot be written" in err
