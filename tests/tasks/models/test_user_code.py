"""Code of a user's folder: what runs is what lies there now, whatever was loaded before."""

import importlib
import sys
from pathlib import Path

import pytest

from tailforge.schemas.errors import ModelError
from tailforge.tasks.models.user_code import import_callable
from tests.support.repository import ROOT


def folder_of(path: Path, number: int) -> Path:
    (path / "parts").mkdir(parents=True, exist_ok=True)
    (path / "users_net.py").write_text("from parts.layer import NUMBER\n\ndef build():\n    return NUMBER\n")
    (path / "parts" / "layer.py").write_text(f"NUMBER = {number}\n")
    return path


def built(folder: Path) -> object:
    return import_callable("users_net:build", "generator", folder)()


def test_changed_code_is_read_anew(tmp_path: Path) -> None:
    assert [built(folder_of(tmp_path, number)) for number in (1, 2, 3)] == [1, 2, 3]
    assert not list(tmp_path.rglob("*.pyc"))


def test_two_folders_have_modules_of_one_name(tmp_path: Path) -> None:
    one, two = folder_of(tmp_path / "one", 1), folder_of(tmp_path / "two", 2)
    assert [built(folder) for folder in (one, two, one)] == [1, 2, 1]


def test_a_module_of_another_folder_does_not_help_out(tmp_path: Path) -> None:
    assert built(folder_of(tmp_path / "one", 1)) == 1
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "users_net.py").write_text("import parts.layer\n")
    with pytest.raises(ModelError, match="users_net:build cannot be imported"):
        built(tmp_path / "two")


def test_a_file_that_a_loaded_module_hides_is_named(tmp_path: Path) -> None:
    (tmp_path / "users_net.py").write_text("import json\nbuild = dict\n")
    (tmp_path / "json.py").write_text("")
    with pytest.raises(ModelError, match=r"needs .*json\.py, but .* is loaded as json; rename the file"):
        built(tmp_path)


def test_pythons_own_settings_are_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = [*sys.path]
    built(folder_of(tmp_path, 1))
    with pytest.raises(ModelError, match="cannot be imported"):
        import_callable("nowhere:build", "generator", tmp_path)
    assert sys.path == before
    assert not sys.dont_write_bytecode


def test_a_late_part_of_a_package_that_was_there_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grown").mkdir()
    for name, text in (("__init__", ""), ("late", "def build():\n    pass\n")):
        (tmp_path / "grown" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("grown")
    try:
        one, two = (import_callable("grown.late:build", "generator", tmp_path) for _ in range(2))
    finally:
        for name in ("grown", "grown.late"):
            sys.modules.pop(name, None)
    assert one is two


def test_what_was_there_before_stays() -> None:
    import tailforge.tasks.methods.cifar_resnet as known

    for _ in range(2):
        assert (
            import_callable("tailforge.tasks.methods.cifar_resnet:CifarResNet", "generator", ROOT / "src")
            is known.CifarResNet
        )
    assert sys.modules["tailforge.tasks.methods.cifar_resnet"] is known
