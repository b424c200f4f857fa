"""Worker processes of one machine, one per device, on Prefect's ProcessPoolTaskRunner."""

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
    """Make this process the worker of one of the build's devices, before its first task.

    tasks/models/cache.py, an imported module, keeps models between tasks. Globals of a task's own file would be
    copied with
    every task. Errors: DeviceError if no device becomes free.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    device, lock = take_device(leased)
    _kept.append(lock)
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if device.startswith(CPU) else device
    if THREADS not in os.environ:
        os.environ[THREADS] = str(share_cores(len(leased)))
        torch.set_num_threads(share_cores(len(leased)))
    if torch.cuda.is_available():
        torch.cuda.init()  # type: ignore[no-untyped-call]  # now: each task restores the parent's variables


def share_cores(workers: int) -> int:
    """Return the threads per process, so that all workers together use at most the number of cores."""
    return max(1, (os.cpu_count() or 1) // workers)


def _end_with_parent() -> None:
    """End this process when the build ends, even by a kill; else it would keep its device's memory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
