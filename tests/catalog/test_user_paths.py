"""Paths that no file can have, homes of nobody, links to themselves and pipes are refused before anything is done."""

import os
import socket
from pathlib import Path

import pytest

from tailforge.catalog.sources.models import resolve_model
from tailforge.catalog.sources.recipes import find_recipe, load_recipe
from tailforge.catalog.sources.references import digest_references
from tailforge.catalog.store import Store
from tailforge.catalog.user_paths import usable_path
from tailforge.schemas.errors import ModelError, RecipeError, StoreAccessError, UserError
from tailforge.schemas.recipe import Concept
from tailforge.schemas.settings.fields import ModelSource

IMPOSSIBLE = [
    ("a\x00b", r"control character U\+0000"),
    ("a\nb", r"control character U\+000A"),
    ("", "it is empty"),
    ("~no-such-user/x", "there is no user 'no-such-user'"),
    ("x" * 256, "longer than a path can be"),
    ("é" * 128, "longer than a path can be"),
    ("x/" * 2500, "longer than a path can be"),
    ("loop", "leads back to itself"),
    ("loop/inside", "leads back to itself"),
    ("pipe", "neither a file nor a folder"),
    ("socket", "neither a file nor a folder"),
    ("/dev/zero", "neither a file nor a folder"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        monkeypatch.chdir(tmp_path)  # the name of a socket is short
        made.bind("socket")
    return tmp_path


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("path", "reason"), IMPOSSIBLE)
def test_what_cannot_be_a_path_is_refused_everywhere(path: str, reason: str, folder: Path) -> None:
    with pytest.raises(UserError, match=reason):
        usable_path(path, "--out")
    with pytest.raises(RecipeError, match=reason):
        find_recipe(path)
    with pytest.raises(StoreAccessError, match=reason):
        Store.open(path, create=True)
    if path:
        with pytest.raises(ModelError, match=reason):
            resolve_model(ModelSource.model_construct(model=path, revision=None, subfolder=None), folder, "generator")
        concept = Concept.model_construct(name="gear", references=path)
        with pytest.raises(RecipeError, match=reason):
            digest_references(folder, concept)


def test_paths_in_a_recipe_are_relative_to_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    with pytest.raises(ModelError, match="leads back to itself"):
        resolve_model(ModelSource(model="loop"), folder, "generator")


def test_a_home_and_what_is_not_there_yet_are_usable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert usable_path("~/new", "--out") == folder / "new"
    assert usable_path("new/newer", "--out") == Path("new/newer")
    assert usable_path(folder, "--out") == folder


def test_a_recipe_that_is_a_folder_or_a_catalog_name_with_a_dot_is_not_found(folder: Path) -> None:
    for path in (str(folder), "./workshop", "../recipes/workshop"):
        with pytest.raises(UserError, match="neither a file nor in the catalog"):
            load_recipe(path)


@pytest.mark.parametrize(
    "path", ["reference://", Path("reference://"), "s3://bucket/photographs", Path("s3://bucket/photographs")]
)
def test_an_address_is_no_path(path: str | Path) -> None:
    with pytest.raises(UserError, match="it is an address, and files of this machine are needed; give another path"):
        usable_path(path, "--out")
    with pytest.raises(UserError) as caught:
        usable_path("s3://KEY:S3KR3T@bucket/photographs", "images")
    assert "S3KR3T" not in str(caught.value)


def test_a_folder_whose_name_ends_in_a_colon_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "set:" / "train").mkdir(parents=True)
    assert usable_path("set:/train", "images", folder=tmp_path) == Path("set:/train")


@pytest.mark.parametrize(
    "uri",
    ["reference://", "reference://x", "data:,x", "data://x", "simplecache::file:///x", "zip://x.zip", "s3://", "http:///",
     "dir::file:///x", "nonsense://x", "s3://bucket/\x00", "memory://a\x1bb"],
)  # fmt: skip
def test_what_is_no_folder_of_a_filesystem_is_no_store(uri: str) -> None:
    with pytest.raises(StoreAccessError, match=r"--store|control character"):
        Store.open(uri)
