"""What others wrote is printed as it is: no brackets are marks, nothing steers the terminal, no secret is repeated."""

import io
import shutil
from pathlib import Path

import pytest
from rich.progress import Progress

from tailforge.catalog.sources.models import name_model
from tailforge.catalog.store import Store
from tailforge.flows.cli.options import table
from tailforge.flows.terminal.console import TextConsole, tell_error, text_column
from tailforge.schemas.documents.addresses import hide_secrets, holds_secret
from tailforge.schemas.documents.shown import visible
from tailforge.schemas.errors import ModelError
from tests.flows.conftest import Command, build
from tests.support.drawn_version import draw_masks, write_version

SECRETS = [
    "simplecache::http://user:S3KR3T@host/store",
    "https+x://user:S3KR3T@host/store",
    "http://user:S3KR3T@host",
    "http://S3KR3T@host/store",
    "s3://KEY:S3KR3T@bucket/store",
    "s3://KEY:S3KR3T/x+S3KR3T@bucket/store",
    "https://host/store?X-Amz-Signature=S3KR3T&x=1",
    "filecache::s3://bucket?key=S3KR3T",
]


@pytest.mark.parametrize("name", ["[/b]x", "x[old]", "[red]x", ":smile:", "x[link=a]y"])
def test_a_store_in_a_folder_with_brackets_is_shown_by_its_name(name: str, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / name
    store = Store.open(str(folder), create=True)
    write_version(store, {"train": draw_masks()})
    store.write_bytes("datasets/drawn/1.0.0/report/index.html", b"<html>")
    for words in (["list"], ["show", "drawn"], ["report", "drawn"], ["diff", "drawn", "drawn"]):
        code, out, err = command(*words, "--store", folder)
        assert (code, err) == (0, ""), words
        if words[0] in ("list", "show", "report"):
            assert name in out.replace("\n", "")


@pytest.mark.flow
def test_recipe_and_store_with_brackets_go_through_a_build(
    tiny_recipe: Path, command: Command, prefect_server: str
) -> None:
    folder = tiny_recipe.parent.parent / "[/b]x[old]"
    shutil.copytree(tiny_recipe.parent, folder)
    recipe, store = folder / tiny_recipe.name, folder / "[bold]store"
    assert "[bold]store" in command("plan", recipe, "--store", store)[1].replace("\n", "")
    assert build(command, recipe, store)["new"]
    for words in (["build"], ["status"], ["plan"]):
        code, out, _ = command(*words, recipe, "--store", store)
        assert code == 0
        assert "[bold]store" in out.replace("\n", "")


def test_nothing_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b[2J\x9b31m\u202eb\rc"
    table(name, [name], [[name]])
    TextConsole().print(name)
    tell_error(f"{name}: two\nlines")
    out, err = capsys.readouterr()
    for each in (out, err):
        assert not set("\x1b\x9b\u202e\r") & set(each)
        assert "a\\x1b[2J\\x9b31m\\u202eb\\rc" in each.replace("\n", "")
    assert err.endswith(": two\nlines\n")


def test_a_progress_bar_shows_words_as_they_are() -> None:
    console = TextConsole()
    console.file = io.StringIO()
    bars = Progress(text_column("{task.description}"), console=console)
    bars.add_task("[/b]x[old]")
    console.print(bars.get_renderable())
    assert "[/b]x[old]" in console.file.getvalue()


def test_visible_text_is_left_as_it_is() -> None:
    assert visible("clé à molette, \u05d0, \n\t, \U0001f527") == "clé à molette, \u05d0, \n\t, \U0001f527"


@pytest.mark.parametrize("word", ["a\x1b[2J", "a\x00b", "a\udcff"])
def test_a_word_with_a_control_character_is_refused(word: str, command: Command) -> None:
    for words in (["show", word], ["list", "--store", word], [f"--{word}"], ["build", "workshop", "--set", word]):
        code, out, err = command(*words)
        assert (code, out) == (2, "")
        assert "holds the control character U+" in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("address", SECRETS)
def test_addresses_with_secrets_are_told_without_them(address: str) -> None:
    assert holds_secret(address)
    assert "S3KR3T" not in hide_secrets(f"cannot open {address!r}, ({address}): no")


@pytest.mark.parametrize(
    "text",
    ["s3://bucket/a@b", "http://127.0.0.1:4200/api", "workshop@1.0.0", "memory://x", "see http://a.b/c. Or a@b.c",
     "is it s3://bucket/folder? No"],
)  # fmt: skip
def test_other_addresses_are_left_as_they_are(text: str) -> None:
    assert hide_secrets(text) == text


@pytest.mark.timeout(30)
@pytest.mark.parametrize("text", ["a:/" + ":" * 100_000, "a" * 100_000, "a:/" * 50_000, "a:/?" * 50_000 + "@"])
def test_no_text_keeps_the_search_for_secrets_busy(text: str) -> None:
    assert len(hide_secrets(f"x:/y {text} x")) <= len(text) + 10


@pytest.mark.parametrize("address", SECRETS)
def test_no_store_has_a_secret(address: str, command: Command) -> None:
    for words in (["list"], ["show", "x"], ["gc"]):
        code, out, err = command(*words, "--store", address)
        assert (code, out) == (2, "")
        assert "holds credentials or a query" in err
        assert "S3KR3T" not in err


@pytest.mark.parametrize("address", SECRETS)
def test_no_model_has_an_address(address: str) -> None:
    """The part before @ would hide that a secret stands in the address."""
    with pytest.raises(ModelError, match="no address") as caught:
        name_model(address, "--model")
    assert "S3KR3T" not in str(caught.value)


@pytest.mark.parametrize("address", SECRETS[5:6])
def test_no_command_takes_or_repeats_a_secret(
    address: str, command: Command, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = set(tmp_path.rglob("*"))
    runs = [
        ["build", tiny_recipe, "--store", address],
        ["plan", tiny_recipe, "--store", address],
        ["build", address],
        ["train", address],
        ["list", address],
        [f"--{address}"],
        ["build", tiny_recipe, "--set", f"generator.model={address}", "--store", tmp_path / "store"],
    ]
    for words in runs:
        code, out, err = command(*words)
        assert code == 2, words
        assert "S3KR3T" not in out + err
    monkeypatch.setenv("PREFECT_API_URL", address)
    code, out, err = command("setup")
    assert code in (1, 2)
    assert "S3KR3T" not in out + err
    assert set(tmp_path.rglob("*")) == made


@pytest.mark.parametrize("address", SECRETS[1:2])
def test_a_ray_address_with_a_secret_is_not_repeated(
    address: str, command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    words = ["build", tiny_recipe, "--store", tmp_path / "store", "--runner", "ray", "--ray-address", address]
    code, out, err = command(*words)
    assert code == 2
    assert "S3KR3T" not in out + err
    kept = [path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert not any(b"S3KR3T" in content for content in kept)
