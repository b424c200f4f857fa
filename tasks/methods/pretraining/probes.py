"""Measure what an encoder knows by probes that are as weak as possible: linear layers and neighbours.

The linear probe is the usual linear classification on frozen features. Optimiser, decay and number of neighbours are
our choices.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tailforge.tasks.methods.classifiers.pictures import Classes, Pixels
from tailforge.tasks.methods.pretraining.encoders import Tokens
from tailforge.tasks.methods.sampling.pixels import to_tensor

VERSION = "probes.1"
READ_AT_ONCE = 128  # images
DECAY = 1e-3  # of the linear probe's weights
ITERATIONS = 200  # of LBFGS at most
NEIGHBOURS = 20
SMALL = 1e-6

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Split:
    """Features [N, D] and classes [N] of images with labels."""

    features: Features
    labels: Classes


@torch.no_grad()
def read_features(tokens: Tokens, images: Pixels) -> Features:
    """Return the mean of each image's patch tokens: [N, D]."""
    # Some images at a time, which bounds the memory.
    parts = (to_tensor(images[at : at + READ_AT_ONCE]) for at in range(0, len(images), READ_AT_ONCE))
    return torch.cat([tokens(part).mean(1) for part in parts]).numpy()


def probe_linear(training: Split, test: Split) -> Classes:
    """Return the classes [N] of the test images by logistic regression on features standardised by the training's."""
    # Standardise both splits by the training split alone.
    mean, deviation = training.features.mean(0), training.features.std(0) + SMALL
    learnt, asked = (torch.from_numpy((each.features - mean) / deviation) for each in (training, test))

    # The loss is convex, so the probe has one optimum.
    labels = torch.from_numpy(training.labels)
    layer = nn.Linear(learnt.shape[1], int(training.labels.max()) + 1)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)  # the optimum is the same from anywhere, so no seed decides it
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(learnt), labels) + DECAY * layer.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    # One call: LBFGS iterates inside.
    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        found: Classes = layer(asked).argmax(1).numpy()
    return found


def probe_neighbours(training: Split, test: Split, neighbours: int = NEIGHBOURS) -> Classes:
    """Return per test image the commonest class [N] among the training images of highest cosine; ties: the lowest."""
    # Unit vectors: their product is the cosine.
    learnt, asked = (F.normalize(torch.from_numpy(each.features), dim=1) for each in (training, test))
    nearest = (asked @ learnt.T).topk(min(neighbours, len(learnt)), dim=1).indices
    votes = F.one_hot(torch.from_numpy(training.labels)[nearest]).sum(1)
    found: Classes = votes.argmax(1).numpy()
    return found
