"""Worker processes of one machine, one a device, on Prefect's ProcessPoolTaskRunner."""

import multiprocessing
import os
import threading
from collections.abc import Sequence
from typing import IO

import torch

from tailforge.flows.runners.device_leases import CPU, take_device

THREADS = "OMP_NUM_THREADS"
_kept: list[IO[str]] = []  # the lock of this process's device


def start_worker(leased: Sequence[str]) -> None:
    """Make this process the worker of one of the build's devices; runs once, before its first task.

    Models stay loaded between tasks by tasks/models/cache.py, an imported module: globals of a task's own file travel
    with every task and would be new each time.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    device, lock = take_device(leased)
    _kept.append(lock)
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if device.startswith(CPU) else device
    if THREADS not in os.environ:
        os.environ[THREADS] = str(share_cores(len(leased)))
        torch.set_num_threads(share_cores(len(leased)))
    if torch.cuda.is_available():
        torch.cuda.init()  # type: ignore[no-untyped-call]  # now: with each task Prefect sets the variables of the parent again


def share_cores(workers: int) -> int:
    """Threads of each of so many processes, so that together they have no more than there are cores."""
    return max(1, (os.cpu_count() or 1) // workers)


def _end_with_parent() -> None:
    """End when the build does, also by a kill: else a worker waits for work for ever and keeps its device's memory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
