"""Which device of this machine belongs to which build: a locked file for each.

The operating system drops a lock when its holder ends, however it ends, so nothing is left to clean up after a kill. A
build holds the lock of each of its devices; each of its worker processes holds a second one, so that a device is free
only when nobody computes on it any more.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import torch

from tailforge.schemas.errors import DeviceError, UserError

LEASES = "TAILFORGE_LEASES"  # the folder, one for all builds of the machine; containers may share one
FOLDER = "/tmp/tailforge-devices"
CPU = "cpu:"
ENDS_S = 60.0  # workers of a killed build end within moments


def list_devices() -> list[str]:
    """Accelerators as CUDA_VISIBLE_DEVICES names them; a place for each core (`cpu:0`, ...) where there is none."""
    count = torch.cuda.device_count()
    if count == 0:
        return [f"{CPU}{number}" for number in range(os.cpu_count() or 1)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible else [str(number) for number in range(count)]


def require_devices(wanted: Sequence[str]) -> None:
    """Errors: UserError for a device that this machine has not; `cpu:N` is any place on the processor."""
    known = list_devices()
    for name in wanted:
        if name not in known and not (name.startswith(CPU) and name.removeprefix(CPU).isdigit()):
            raise UserError(f"--devices {name}: this machine has {', '.join(known)}; name some of these")
    if len(set(wanted)) < len(wanted):
        raise UserError(f"--devices {','.join(wanted)}: a device is named twice; name each once")


@contextmanager
def lease_devices(wanted: Sequence[str], most: int | None, purpose: str) -> Iterator[list[str]]:
    """Devices that no other build has until this ends: all of `wanted`, or without any up to `most` of the free ones.

    `purpose` is what other builds are told of the holder. Errors: DeviceError naming who holds what is not free.
    """
    require_devices(wanted)
    leased: list[str] = []
    held: list[str] = []
    with ExitStack() as locks:
        for name in wanted or list_devices():
            if len(leased) == most:
                break
            if (file := try_lock(f"{name}.build")) is None:
                held.append(f"{name} {_describe_holder(name)}")
                continue
            locks.enter_context(file)
            _write_note(file, purpose)
            leased.append(name)
        if held and (wanted or not leased):
            raise DeviceError(f"device {'; device '.join(held)}; wait for its end or name others by --devices")
        yield leased


def take_device(leased: Sequence[str]) -> tuple[str, IO[str]]:
    """The first of a build's devices on which no process works; it is this process's as long as the file is open.

    Errors: DeviceError if none becomes free.
    """
    until = time.monotonic() + ENDS_S
    while time.monotonic() < until:
        for name in leased:
            if (file := try_lock(f"{name}.worker")) is not None:
                _write_note(file, "worker")
                return name, file
        time.sleep(0.1)
    raise DeviceError(f"processes that should have ended still work on {', '.join(leased)}; end them (`ps`), try again")


def try_lock(name: str) -> IO[str] | None:
    """The file of that name, locked until it is closed; None if another holds it."""
    path = Path(os.environ.get(LEASES) or FOLDER) / f"{name.replace('/', '-')}.lock"
    if not path.exists():
        _make_shared(path)
    file = path.open("r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _make_shared(path: Path) -> None:
    """Make the file where it is missing, for builds of every user of the machine."""
    before = os.umask(0)
    try:
        path.parent.mkdir(mode=0o777, parents=True, exist_ok=True)
        path.touch(mode=0o666)
    finally:
        os.umask(before)


def _write_note(file: IO[str], purpose: str) -> None:
    note = {"pid": os.getpid(), "purpose": purpose, "since": datetime.now(UTC).isoformat(timespec="seconds")}
    file.seek(0)
    file.truncate()
    file.write(json.dumps(note))
    file.flush()


def _describe_holder(name: str) -> str:
    path = Path(os.environ.get(LEASES) or FOLDER) / f"{name}.build.lock"
    try:
        note = json.loads(path.read_text())
        return f"belongs to process {note['pid']} ({note['purpose']}, since {note['since']})"
    except (OSError, ValueError, KeyError):  # the holder is just writing it
        return "belongs to another process"
