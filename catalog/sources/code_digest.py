"""Digest a user's own code by reading it, without running it."""

import ast
import hashlib
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from tailforge.schemas.errors import ModelError

FORMER = "tasks.methods."  # name of tailforge.tasks.methods in release 0.1.0


def digest_code(target: str, folder: Path, field: str) -> str:
    """Return the sha256 over the Python files of `target` (package.module:callable), searched in `folder` first.

    The files are the module and its direct and indirect imports: all modules in `folder`, elsewhere the module's own
    package only. Errors: ModelError with `field` if there is no such module.
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
    """Return the files of `target` in `folder` by the dotted names of their modules."""
    name = target.partition(":")[0]
    root, inside = _find_root(name, folder)
    files = _follow_imports(name, folder, "") if root is not None and not inside else set[Path]()
    return {".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def _find_root(name: str, folder: Path) -> tuple[Path | None, str]:
    """Return the folder above the module's package, or None, and the package to follow; "" follows all imports."""
    top = name.partition(".")[0]
    if PathFinder.find_spec(top, [str(folder)]) is not None:
        return folder, ""
    spec = _find_installed(top)
    if spec is None:
        return None, top
    places = list(spec.submodule_search_locations or []) or [spec.origin or ""]
    return Path(places[0]).parent, top


def _find_installed(top: str) -> ModuleSpec | None:
    """Return the spec of an installed package from any finder, since an editable install adds its own finder.

    An already imported module does not count.
    """
    found = (finder.find_spec(top, None) for finder in sys.meta_path)
    return next((spec for spec in found if spec is not None), None)


def _follow_imports(name: str, root: Path, inside: str) -> set[Path]:
    """Return the files of a module and of its direct and indirect imports below `root`."""
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
    """Return the existing files of a module: its own, and the __init__.py of itself and its parents."""
    parts = module.split(".")
    candidates = [root.joinpath(*parts[:count], "__init__.py") for count in range(1, len(parts) + 1)]
    return [file for file in [*candidates, root.joinpath(*parts).with_suffix(".py")] if file.is_file()]


def _imported(file: Path, root: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports; none for a file with a syntax error, which fails on import."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return

    # Relative imports start from the file's package.
    package = file.relative_to(root).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
