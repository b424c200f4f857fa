"""Import a user's own code, from the files whose digest is known (catalog/sources/code_digest.py)."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

from torch import nn

from tailforge.catalog.sources.code_digest import list_own_modules
from tailforge.schemas.errors import ModelError

_imported: set[str] = set()  # modules of users' folders; they stay loaded for late imports of their code


def import_callable(path: str, role: str, folder: Path | None) -> Callable[..., Any]:
    """Import the callable package.module:name, from the user's `folder` or else from the Python path.

    Files of the folder are read again for each call. `role`: the model's field in the recipe, for errors.
    Errors: ModelError for code that cannot be imported, for files that another module hides, and for objects that build
    no torch module.
    """
    # The standard library has no torch modules, and some of its functions are dangerous.
    name, _, attribute = path.partition(":")
    is_own = folder is not None and bool(list_own_modules(path, folder))
    if name.partition(".")[0] in sys.stdlib_module_names and not is_own:
        raise ModelError(f"{role}.module: {path} is of Python itself, which holds no torch module; name code of yours")

    # Import the user's code, and check that it came from the folder.
    with _importable(folder):
        try:
            found = getattr(importlib.import_module(name), attribute)
        except Exception as error:  # an import runs the user's own code, which can raise anything
            where = f" from {folder} or" if folder else " from"
            raise ModelError(f"{role}.module: {path} cannot be imported{where} the Python path: {error!r}") from error
    if folder is not None:
        _refuse_hidden(path, role, folder)

    # It must be able to build a torch module.
    if not callable(found):
        raise ModelError(f"{role}.module: {path} is a {type(found).__name__}; name a class or function")
    if (isinstance(found, type) and not issubclass(found, nn.Module)) or isinstance(found, BuiltinFunctionType):
        raise ModelError(f"{role}.module: {path} is no torch module and no function that can return one")
    builder: Callable[..., Any] = found
    return builder


@contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    """Make the modules of a folder importable inside the block."""
    # Forget modules of earlier folders: they may be of another folder, or have changed.
    for name in _imported:
        sys.modules.pop(name, None)
    _imported.clear()

    # Bytecode would hide a change within the same second, so none is written.
    known, writes, places = set(sys.modules), sys.dont_write_bytecode, [] if folder is None else [str(folder)]
    sys.path[:0], sys.dont_write_bytecode = places, True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        del sys.path[: len(places)]
        sys.dont_write_bytecode = writes
        if folder is not None:
            _imported.update(name for name in set(sys.modules) - known if _is_own(name, folder, known))


def _is_own(name: str, folder: Path, known: set[str]) -> bool:
    """Return whether a module is the folder's, and no part of a package that was loaded before."""
    module = sys.modules[name]
    file = getattr(module, "__file__", None)
    places = [file] if file else list(getattr(module, "__path__", []))  # a package without __init__.py has no file
    inside = any(Path(place).resolve().is_relative_to(folder.resolve()) for place in places)
    return inside and name.partition(".")[0] not in known


def _refuse_hidden(path: str, role: str, folder: Path) -> None:
    for name, file in list_own_modules(path, folder).items():
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded is not None and Path(loaded).resolve() != file.resolve():
            raise ModelError(f"{role}.module: {path} needs {file}, but {loaded} is loaded as {name}; rename the file")
