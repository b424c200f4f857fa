"""The digest of a user's own code, found by reading it and never by running it."""

import ast
import hashlib
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from tailforge.schemas.errors import ModelError

FORMER = "tasks.methods."  # what release 0.1.0 called tailforge.tasks.methods


def digest_code(target: str, folder: Path, field: str) -> str:
    """sha256 over the Python files that `target` (package.module:callable) is made of; `folder` is looked at first.

    These are its module and what that imports, directly or not: of `folder` anything, elsewhere the module's own
    package. Errors: ModelError naming `field` if there is no such module.
    """
    name = target.partition(":")[0]
    root, inside = _find_root(name, folder)
    if root is None or not (files := _follow_imports(name, root, inside)):
        advice = f"name it tailforge.{target}" if name.startswith(FORMER) else f"check {target!r}"
        raise ModelError(f"{field}.module: {name} is neither in {folder} nor on the Python path; {advice}")
    whole = hashlib.sha256()
    for file in sorted(files):
        whole.update(f"{file.relative_to(root)}\x1f{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


def list_own_modules(target: str, folder: Path) -> dict[str, Path]:
    """Those modules that `target` is made of whose files are in `folder`, by their dotted names."""
    name = target.partition(":")[0]
    root, inside = _find_root(name, folder)
    files = _follow_imports(name, folder, "") if root is not None and not inside else set[Path]()
    return {".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def _find_root(name: str, folder: Path) -> tuple[Path | None, str]:
    """Folder that the module's dotted name starts from, and the package that is followed there; "" for all."""
    top = name.partition(".")[0]
    if PathFinder.find_spec(top, [str(folder)]) is not None:
        return folder, ""
    spec = _find_installed(top)
    if spec is None:
        return None, top
    places = list(spec.submodule_search_locations or []) or [spec.origin or ""]
    return Path(places[0]).parent, top


def _find_installed(top: str) -> ModuleSpec | None:
    """Asks every finder, as an editable install has one of its own; a module that is loaded already is no answer."""
    found = (finder.find_spec(top, None) for finder in sys.meta_path)
    return next((spec for spec in found if spec is not None), None)


def _follow_imports(name: str, root: Path, inside: str) -> set[Path]:
    found: set[Path] = set()
    waiting, seen = [name], set[str]()
    while waiting:
        module = waiting.pop()
        if module in seen or (inside and module.partition(".")[0] != inside):
            continue
        seen.add(module)
        for file in _files(module, root):
            if file not in found:
                found.add(file)
                waiting += _imported(file, root)
    return found


def _files(module: str, root: Path) -> list[Path]:
    """The module's file and the __init__.py of itself and its parents, as far as they are there."""
    parts = module.split(".")
    candidates = [root.joinpath(*parts[:count], "__init__.py") for count in range(1, len(parts) + 1)]
    return [file for file in [*candidates, root.joinpath(*parts).with_suffix(".py")] if file.is_file()]


def _imported(file: Path, root: Path) -> Iterator[str]:
    """Dotted names that a file imports; none of a file that does not parse, which fails when it is loaded."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    package = file.relative_to(root).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
