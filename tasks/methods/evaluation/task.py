"""Define the task of a model that an evaluation trains: its presets, loss, score and words.

Letters of shapes: N images, C channels, H and W rows and columns, K classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from tailforge.schemas.evaluation import Optimizer, TaskName


@dataclass(frozen=True)
class Habits:
    """Settings of a training that are the model's own unless a person chooses others."""

    optimizer: Optimizer
    learning_rate: float
    weight_decay: float
    batch: int


@dataclass(frozen=True)
class Preset:
    """A small network. `build(classes, channels)` returns it untrained; it reads sides of `smallest` to `largest` px.

    The network maps normalised images [N, C, H, W] to logits [N, K], or [N, K, H, W] for masks.
    """

    build: Callable[[int, int], nn.Module]
    smallest: int
    largest: int
    habits: Habits


@dataclass(frozen=True)
class Words:
    """What people call the parts of a task: a class's score, and what confusions count."""

    score: str
    unit: str


@dataclass(frozen=True)
class Task:
    """A task of models. `loss`: a scalar of logits [N, K, ...] and labels [N, ...], where UNKNOWN counts for nothing.

    `scores`: of each class [K], in 0..1, from counts [K, K] by label and class found; NaN for a class without units.
    `library_class` of transformers loads the task's models. `habits`: of these, fine-tuned and from scratch. `part`:
    images per pass of a measurement, which bounds the memory.
    """

    name: TaskName
    presets: Mapping[str, Preset]
    loss: Callable[[Tensor, Tensor], Tensor]
    scores: Callable[[NDArray[np.int64]], NDArray[np.float64]]
    words: Words
    library_class: str
    habits: Mapping[bool, Habits]
    part: int
