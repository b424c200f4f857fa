"""Read the memory of this machine and of the device that models load into, without torch."""

import os
from dataclasses import dataclass
from pathlib import Path

from tailforge.tasks.artifacts.accelerators import list_accelerators
from tailforge.tasks.artifacts.contract import name_accelerator

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


@dataclass(frozen=True)
class DeviceMemory:
    """The device that models load into: its name, "cpu" for the processors, and bytes of memory in all and free."""

    name: str
    total: int
    free: int


def read_device() -> DeviceMemory:
    """Return the memory of this process's accelerator, or of the machine."""
    accelerators = list_accelerators() if (name := name_accelerator()) != "cpu" else ()
    if accelerators:
        return DeviceMemory(name, accelerators[0].memory, accelerators[0].free)
    return DeviceMemory(name, *read_memory())


def read_memory() -> tuple[int, int]:
    """Return the bytes of memory, and those that are available. A container's limit counts."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page
    free = total
    listed = Path("/proc/meminfo")
    if listed.exists():
        lines = dict(line.split(":", 1) for line in listed.read_text().splitlines() if ":" in line)
        free = int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else free
    limits = [int(text) for path in map(Path, LIMITS) if path.exists() and (text := path.read_text().strip()).isdigit()]
    return min([total, *limits]), min([free, *limits])
