"""What an encoder knows, read by probes that are as weak as they can be: lines and neighbours.

The linear probe is that of linear classification on frozen features as usual in the literature; the choices of
optimiser, decay and neighbours are ours.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tailforge.tasks.methods.classifiers.train import Classes
from tailforge.tasks.methods.classifiers.views import Pixels
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
    """Mean of an image's patch tokens: [N, D]."""
    parts = (to_tensor(images[at : at + READ_AT_ONCE]) for at in range(0, len(images), READ_AT_ONCE))
    return torch.cat([tokens(part).mean(1) for part in parts]).numpy()


def probe_linear(training: Split, test: Split) -> Classes:
    """Classes of the test images by logistic regression on standardised features; the scale is the training's."""
    mean, deviation = training.features.mean(0), training.features.std(0) + SMALL
    learnt, asked = (torch.from_numpy((each.features - mean) / deviation) for each in (training, test))
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

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        found: Classes = layer(asked).argmax(1).numpy()
    return found


def probe_neighbours(training: Split, test: Split, neighbours: int = NEIGHBOURS) -> Classes:
    """Of each test image the commonest class among the training images of highest cosine; in a tie the lower."""
    learnt, asked = (F.normalize(torch.from_numpy(each.features), dim=1) for each in (training, test))
    nearest = (asked @ learnt.T).topk(min(neighbours, len(learnt)), dim=1).indices
    votes = F.one_hot(torch.from_numpy(training.labels)[nearest]).sum(1)
    found: Classes = votes.argmax(1).numpy()
    return found
