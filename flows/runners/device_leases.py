"""Assign the devices of this machine to builds by one locked file per device.

The operating system drops a lock when its holder ends, so nothing needs cleaning up after a kill. A build locks each of
its devices, and each of its workers holds a second lock. A device is free only when no worker computes on it.
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

from tailforge.schemas.documents.foreign_json import parse_object
from tailforge.schemas.errors import DeviceError, UserError

LEASES = "TAILFORGE_LEASES"  # folder of the locks, one per machine; containers may share it
FOLDER = "/tmp/tailforge-devices"
CPU = "cpu:"
ENDS_S = 60.0  # longest wait for the workers of a killed build


def list_devices() -> list[str]:
    """Return accelerators as CUDA_VISIBLE_DEVICES names them; without any, one `cpu:N` per core."""
    count = torch.cuda.device_count()
    if count == 0:
        return [f"{CPU}{number}" for number in range(os.cpu_count() or 1)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible else [str(number) for number in range(count)]


def require_devices(wanted: Sequence[str]) -> None:
    """Check device names; `cpu:N` is valid for any N. Errors: UserError for an unknown or repeated device."""
    known = list_devices()
    for name in wanted:
        if name not in known and not (name.startswith(CPU) and name.removeprefix(CPU).isdecimal() and name.isascii()):
            raise UserError(f"--devices {name}: this machine has {', '.join(known)}; name some of these")
    if len(set(wanted)) < len(wanted):
        raise UserError(f"--devices {','.join(wanted)}: a device is named twice; name each once")


@contextmanager
def lease_devices(wanted: Sequence[str], most: int | None, purpose: str) -> Iterator[list[str]]:
    """Yield devices that no other build uses until this ends: all of `wanted`, or else up to `most` free ones.

    `purpose` describes this build to other builds. Errors: DeviceError naming the holder of each device in use.
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
    """Return the first of a build's devices without a worker, and its open lock file.

    Closing the file frees the device. Errors: DeviceError if none becomes free.
    """
    until = time.monotonic() + ENDS_S
    while time.monotonic() < until:
        for name in leased:
            if (file := try_lock(f"{name}.worker")) is not None:
                _write_note(file, "worker")
                return name, file
        time.sleep(0.1)
    raise DeviceError(f"processes of an earlier build still use {', '.join(leased)}; end them (`ps`), try again")


def try_lock(name: str) -> IO[str] | None:
    """Return the open, locked file of that name; None if another process holds the lock."""
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
    """Create a missing file that builds of every user may write."""
    before = os.umask(0)
    try:
        path.parent.mkdir(mode=0o777, parents=True, exist_ok=True)
        path.touch(mode=0o666)
    finally:
        os.umask(before)


def _write_note(file: IO[str], purpose: str) -> None:
    """Write who holds a lock, since when and for what."""
    note = {"pid": os.getpid(), "purpose": purpose, "since": datetime.now(UTC).isoformat(timespec="seconds")}
    file.seek(0)
    file.truncate()
    file.write(json.dumps(note))
    file.flush()


def _describe_holder(name: str) -> str:
    """Return who holds the device, for an error."""
    path = Path(os.environ.get(LEASES) or FOLDER) / f"{name}.build.lock"
    try:
        note = parse_object(path.read_bytes())
        return f"belongs to process {note['pid']} ({note['purpose']}, since {note['since']})"
    except (OSError, ValueError, KeyError):  # the holder is writing the note now, or another user wrote it
        return "belongs to another process"
