"""Look at the processors, the memory and the store of this machine."""

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from tailforge.catalog.registry import list_datasets
from tailforge.catalog.store import Store
from tailforge.flows.doctor.findings import Finding
from tailforge.schemas.documents.shown import count_of
from tailforge.tasks.artifacts.contract import count_threads, describe_machine
from tailforge.tasks.artifacts.memory import read_memory
from tailforge.tasks.report.units import show_bytes

LEAST_MEMORY, LEAST_DISK = 2 * 10**9, 10**9  # bytes below which a line warns; our choice


def look_at_machine() -> Iterator[Finding]:
    """Yield the processors and the memory."""
    yield Finding("Python", "ok", f"{platform.python_version()} on {platform.system()}")
    yield Finding("processors", "ok", f"{describe_machine()}, {count_of(count_threads(), 'thread')} for libraries")
    total, free = read_memory()
    found = f"{show_bytes(free)} available of {show_bytes(total)}"
    if free < LEAST_MEMORY:
        yield Finding("memory", "limited", found, "end other programs, or take a machine with more memory")
    else:
        yield Finding("memory", "ok", found)


def look_at_store(uri: str) -> Iterator[Finding]:
    """Yield whether the store can be opened and written, and its free space. A missing folder stays missing."""
    store = Store.open(uri)
    if not store.is_local:
        count = len(list_datasets(store))
        yield Finding("store", "ok", f"{store.uri} answers and holds {count_of(count, 'dataset')}")
        return

    # The folder, or the one in which a build would make it.
    root = Path(store.root)
    place = next(each for each in (root, *root.parents) if each.is_dir())
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding("store", "broken", f"{place} cannot be written", "name a folder by --store or TAILFORGE_STORE")
        return
    there = f"holds {count_of(len(list_datasets(store)), 'dataset')}" if root.is_dir() else "is made by the first build"
    yield Finding("store", "ok", f"{root} {there}")

    free = shutil.disk_usage(place).free
    if free < LEAST_DISK:
        yield Finding("disk", "limited", f"{show_bytes(free)} free", "make room: `tailforge gc --delete`, or --store")
    else:
        yield Finding("disk", "ok", f"{show_bytes(free)} free")
