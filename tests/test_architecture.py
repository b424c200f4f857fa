"""The house holds: imports run one way, mathematics knows no orchestration, the checkers find nothing."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("schemas", "catalog", "tasks", "flows")
MAY_IMPORT = {
    "schemas": set(),
    "catalog.pictures": {"schemas"},
    "catalog": {"schemas", "catalog.pictures"},
    "tasks.methods": {"schemas", "catalog.pictures"},
    "tasks.artifacts": {"schemas", "catalog"},
    "tasks.models": {"schemas", "catalog", "catalog.pictures", "tasks.methods"},
    "tasks": {"schemas", "catalog", "catalog.pictures", "tasks.methods", "tasks.models", "tasks.artifacts"},
    "flows": {"schemas", "catalog", "catalog.pictures", "tasks", "tasks.methods", "tasks.models", "tasks.artifacts"},
}
NO_PREFECT = ("schemas", "catalog", "tasks.methods", "tasks.models", "tasks.artifacts")
HEAVY = {"torch", "diffusers", "transformers", "prefect"}


def room_of(module: str) -> str | None:
    """Longest room that `module` belongs to, or None for foreign code."""
    return max((room for room in MAY_IMPORT if f"{module}.".startswith(f"{room}.")), key=len, default=None)


def sources() -> Iterator[tuple[str, Path]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_run_one_way() -> None:
    wrong = []
    for module, path in sources():
        here = room_of(module)
        assert here is not None
        for name in imported(path):
            room = room_of(name)
            if room and room != here and room not in MAY_IMPORT[here]:
                wrong.append(f"{module} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_pictures_are_decoded_in_one_place() -> None:
    """Every decoder of Pillow that nobody asked for is a way in."""
    places = {
        module
        for module, path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "PIL.Image.open")
    }
    assert places == {"catalog.pictures"}


def test_prefect_stays_in_tasks_and_flows() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in sources()
        if module.startswith(NO_PREFECT)
        for name in imported(path)
        if name.split(".")[0] == "prefect"
    ]
    assert not wrong, "\n".join(wrong)


def test_a_consumer_needs_neither_torch_nor_prefect() -> None:
    modules = [module for module, _ in sources() if module.startswith(("schemas", "catalog"))]
    program = f"import sys\nfor m in {modules!r}: __import__(m)\nprint(sorted({HEAVY!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_tasks_package_is_empty() -> None:
    assert (ROOT / "tasks" / "__init__.py").read_text() == ""


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_come_from_this_repository(room: str) -> None:
    file = importlib.import_module(room).__file__
    assert file is not None
    assert Path(file).is_relative_to(ROOT)


def test_tests_hold_no_packages() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=["ruff", "format", "mypy"]
)
def test_checkers_find_nothing(command: list[str]) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
