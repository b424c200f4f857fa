"""Modules that are imported when they are used."""

import importlib.abc
import importlib.machinery
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest

from tailforge.schemas.extras import when_called

NAMES = [f"imported_slowly_{number}" for number in range(4)]


class Slow(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes modules whose import takes a moment, and counts how many are being imported."""

    def __init__(self) -> None:
        self.most = self.now = 0

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> Any:
        own = name.removeprefix("tailforge.") in NAMES
        return importlib.machinery.ModuleSpec(name, self) if own else None

    def exec_module(self, module: ModuleType) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.05)
        self.now -= 1
        module.__dict__["name"] = lambda: module.__name__


def test_threads_import_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that imported transformers at once ended a build: one found it without its classes."""
    slow, together = Slow(), threading.Barrier(len(NAMES))
    monkeypatch.setattr(sys, "meta_path", [slow, *sys.meta_path])

    def use(name: str) -> Any:
        together.wait()
        return when_called(name, "name")()

    with ThreadPoolExecutor(len(NAMES)) as pool:
        assert list(pool.map(use, NAMES)) == [f"tailforge.{name}" for name in NAMES]
    assert slow.most == 1
