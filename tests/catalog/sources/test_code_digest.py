"""The digest of a user's code: what counts, what does not, and that nothing runs."""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from tailforge.catalog.sources.code_digest import digest_code
from tailforge.schemas.errors import ModelError
from tests.support.repository import ROOT


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


CODE = {
    "net.py": "import layers\nfrom torch import nn\nraise SystemExit('it was run')\n",
    "layers.py": "from blocks.basic import Block\n",
    "blocks/__init__.py": "",
    "blocks/basic.py": "from . import tools\nimport blocks.extra as extra\n",
    "blocks/tools.py": "x = 1\n",
    "blocks/extra.py": "x = 1\n",
    "other.py": "x = 1\n",
    "notes.txt": "x",
}


@pytest.mark.parametrize(
    ("changed", "counts"),
    [
        ("net.py", True),
        ("layers.py", True),
        ("blocks/__init__.py", True),
        ("blocks/basic.py", True),
        ("blocks/tools.py", True),
        ("blocks/extra.py", True),
        ("other.py", False),
        ("notes.txt", False),
    ],
)
def test_all_that_the_module_imports_counts_and_nothing_else(changed: str, counts: bool, tmp_path: Path) -> None:
    before = digest_code("net:build", write(tmp_path, CODE), "generator")
    write(tmp_path, {changed: CODE[changed] + "# changed\n"})
    assert (digest_code("net:build", tmp_path, "generator") != before) is counts


def test_the_digest_is_the_same_in_another_folder(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", CODE), write(tmp_path / "two", CODE)
    assert digest_code("net:build", one, "generator") == digest_code("net:build", two, "generator")


def test_where_a_file_lies_counts(tmp_path: Path) -> None:
    user = {"net.py": "import one\nimport two\n"}  # of which there is but one
    one, two = (write(tmp_path / name, {**user, f"{name}.py": "x = 1\n"}) for name in ("one", "two"))
    assert digest_code("net:build", one, "generator") != digest_code("net:build", two, "generator")


@pytest.mark.parametrize(("changed", "counts"), [("pack/inner.py", True), ("beside.py", False)])
def test_an_installed_package_counts_by_its_own_files_alone(
    changed: str, counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"pack/__init__.py": "import beside\nfrom . import inner\n", "pack/inner.py": "", "beside.py": ""}
    installed = write(tmp_path / "installed", files)
    monkeypatch.syspath_prepend(installed)
    before = digest_code("pack:build", tmp_path, "generator")
    write(installed, {changed: "# changed\n"})
    assert (digest_code("pack:build", tmp_path, "generator") != before) is counts


def test_code_that_does_not_parse_has_a_digest_too(tmp_path: Path) -> None:
    assert len(digest_code("net:build", write(tmp_path, {"net.py": "def"}), "generator")) == 64


@pytest.mark.parametrize("target", ["nowhere:build", "blocks.nowhere.at_all:build"])
def test_code_that_is_nowhere_is_named(target: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"generator\.module: .*nowhere.* is neither"):
        digest_code(target, write(tmp_path, {"net.py": ""}), "generator")


class Finder:
    """What an editable install of a flat layout puts beside the Python path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        file = self.folder / f"{name}.py"
        return spec_from_file_location(name, file) if path is None and file.exists() else None


def test_code_of_an_editable_install_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = write(tmp_path / "installed", {"editable_net.py": "raise SystemExit('it was run')\n"})
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder(installed)])
    before = digest_code("editable_net:build", tmp_path, "generator")
    write(installed, {"editable_net.py": "# changed\n"})
    assert digest_code("editable_net:build", tmp_path, "generator") != before


def test_a_loaded_module_does_not_stand_for_code_that_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_from_file_location("once_loaded", write(tmp_path / "other", {"once_loaded.py": ""}) / "once_loaded.py")
    assert spec is not None
    monkeypatch.setitem(sys.modules, "once_loaded", module_from_spec(spec))
    with pytest.raises(ModelError, match="once_loaded is neither"):
        digest_code("once_loaded:build", tmp_path, "generator")


def test_a_former_name_of_our_own_code_is_answered_by_todays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    monkeypatch.setattr(sys, "path", elsewhere)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"name it tailforge\.tasks\.methods\.cifar_resnet:CifarResNet$"):
        digest_code("tasks.methods.cifar_resnet:CifarResNet", tmp_path, "generator")
    assert digest_code("tailforge.tasks.methods.cifar_resnet:CifarResNet", tmp_path, "generator")
