"""Look at the accelerators: what the driver lists, and what the installed torch can use of it."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from tailforge.flows.doctor.findings import Finding
from tailforge.tasks.artifacts.accelerators import VISIBLE, Accelerator, list_accelerators
from tailforge.tasks.report.units import show_bytes

OTHER_BUILD = "install torch's build for the driver: https://pytorch.org/get-started/locally"


def look_at_devices() -> Iterator[Finding]:
    """Yield the accelerators of the driver and the torch build. Errors: ModuleNotFoundError without torch."""
    listed = list_accelerators()
    for each in listed:
        yield Finding(f"accelerator {each.index}", "ok", describe_accelerator(each))
    if not listed:
        yield Finding("accelerators", "ok", f"none by NVIDIA's driver (nvidia-smi; {VISIBLE} may hide some)")
    yield from look_at_torch(import_module("torch"), listed)


def describe_accelerator(each: Accelerator) -> str:
    """Return an accelerator's name, memory and driver."""
    memory = f"{show_bytes(each.free)} free of {show_bytes(each.memory)}" if each.memory else "memory unknown"
    return f"{each.name}, {memory}, driver {each.driver}"


def look_at_torch(torch: Any, listed: tuple[Accelerator, ...]) -> Iterator[Finding]:
    """Yield torch's build and the devices that it can use."""
    platform = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"HIP {torch.version.hip}"
    build = platform if torch.version.cuda or torch.version.hip else "for processors"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    used = ", ".join(torch.cuda.get_device_name(number) for number in range(count)) or "the processors"
    found = f"{torch.__version__}, build {build}, runs on {used}"
    if listed and not count:
        yield Finding("torch", "limited", f"{found}, although the driver lists an accelerator", OTHER_BUILD)
    else:
        yield Finding("torch", "ok", found)
