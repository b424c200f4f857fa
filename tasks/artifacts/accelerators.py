"""List the accelerators of this machine by the driver's own program, without torch."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib import metadata

PROGRAM = "nvidia-smi"
FIELDS = ("index", "uuid", "name", "memory.total", "memory.free", "driver_version")
MIB = 2**20
ANSWERS_S = 20.0
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Accelerator:
    """An accelerator in its driver's words: product name, memory in bytes (0 if unknown), version of the driver."""

    index: str
    uuid: str
    name: str
    memory: int
    free: int
    driver: str


@cache
def list_accelerators() -> tuple[Accelerator, ...]:
    """Return NVIDIA's accelerators that this process may use; none if the driver is missing or does not answer.

    CUDA_VISIBLE_DEVICES chooses them and their order, by number or by UUID.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        return ()
    query = [program, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=ANSWERS_S, check=True).stdout
        found = tuple(map(_read_line, answer.splitlines()))
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()
    return choose_visible(found, os.environ.get(VISIBLE))


def _read_line(line: str) -> Accelerator:
    index, uuid, name, memory, free, driver = (part.strip() for part in line.split(","))
    total, left = (int(text) * MIB if text.isdigit() else 0 for text in (memory, free))
    return Accelerator(index, uuid, name, total, left, driver)


def choose_visible(found: tuple[Accelerator, ...], visible: str | None) -> tuple[Accelerator, ...]:
    """Return the accelerators that a value of CUDA_VISIBLE_DEVICES names, in its order; all without a value.

    As CUDA reads it, the first name of no accelerator hides all that follow.
    """
    if visible is None:
        return found
    chosen: list[Accelerator] = []
    for word in visible.split(","):
        own = [each for each in found if word.strip() == each.index or (word and each.uuid.startswith(word.strip()))]
        if len(own) != 1:
            break
        chosen += own
    return tuple(chosen)


def torch_is_for_processors() -> bool:
    """Return whether the installed torch, if any, is a build that uses no accelerator."""
    try:
        return metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return True
