"""Describe what an image's bytes depend on beside its sample: scheduler, batch and device."""

from typing import Any

import torch

from tailforge.tasks.methods.sampling.generator import Scheduler


def describe_batch(scheduler: Scheduler, count: int, device: torch.device) -> dict[str, Any]:
    """Return the facts of a batch of `count` images for their provenance."""
    return {"scheduler": name_scheduler(scheduler), "batch_size": count, "device": name_device(device)}


def name_scheduler(scheduler: Scheduler) -> str:
    """Return the class name of the diffusers scheduler, also for a scheduler that we derive from one."""
    # An adapter's own class comes first; the name of the diffusers class below it is the stable one.
    names = [kind.__name__ for kind in type(scheduler).__mro__ if kind.__module__.startswith("diffusers.")]
    return names[0]


def name_device(device: torch.device) -> str:
    """Return the device that the pixels depend on: "cpu" or the accelerator's product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
