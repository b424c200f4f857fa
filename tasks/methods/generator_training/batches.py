"""Choose the images and texts of each training step.

A sampler decides which rows of its data a step learns, and by which texts. The training loop is the same for all.
Letters of shapes: N images of the data, B of a step or pass, C channels, H and W latent rows and columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailforge.tasks.methods.classifiers.train import draw_rows
from tailforge.tasks.methods.training_loop import numpy_draws

TURN_STREAM, MEMBER_STREAM, ROOT_STREAM = 3, 4, 5  # separate the random numbers of turns, images and roots

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Images of a step: their rows [B], one text each, and `captioned` bool [B]: False where the text was dropped."""

    rows: Rows
    texts: Sequence[str]
    captioned: NDArray[np.bool_]

    def cut(self, piece: slice) -> "Batch":
        """Return a part of the batch."""
        return Batch(self.rows[piece], self.texts[piece], self.captioned[piece])


class Sampler(Protocol):
    """Draws the batch of every step and loads its latents."""

    @property
    def shape(self) -> torch.Size:
        """Shape of a batch's latents, [B, C, H, W]."""

    def draw(self, step: int) -> Batch:
        """Return the batch of a step; it depends on the step's number alone."""

    def load(self, rows: Rows) -> Tensor:
        """Return the clean latents of rows [B], [B, C, H, W]."""


@dataclass(frozen=True)
class Examples:
    """Clean latents with captions. `latents` may be on a disk; `chosen` [N] are the rows of it that are used.

    `classes`: a class name per row of the latents, None for a row without one; empty without classes.
    """

    latents: NDArray[np.float32]
    captions: Sequence[str]
    chosen: Rows
    classes: Sequence[str | None] = ()

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, rows: Rows | slice) -> tuple[Tensor, list[str]]:
        """Return latents [B, C, H, W] and captions of some of the N images."""
        # Copy, since latents on a disk are mapped read-only.
        places = self.chosen[rows]
        return torch.from_numpy(np.array(self.latents[places])), [self.captions[place] for place in places]

    def by_class(self) -> dict[str | None, Rows]:
        """Return the numbers (0 to N - 1) of the images of each class, by name, None last; empty without classes."""
        own = [self.classes[place] for place in self.chosen] if self.classes else []
        names = sorted({name for name in own if name is not None})
        found: list[str | None] = [*names, *([None] if None in own else [])]
        return {name: np.flatnonzero([each == name for each in own]) for name in found}


def draw_by_class(groups: Sequence[Rows], batch: int, seed: int, step: int) -> Rows:
    """Return the rows [batch] of a step. All classes take turns in random order, and so do the images of a class.

    `groups`: rows per class, int64 [n], n above 0. A turn of the classes holds each once, so the k-th turn takes the
    k-th image of every class: after n turns each of its n images was taken once.
    """
    rows = np.empty(batch, np.int64)
    for place in range(batch):
        # The class by its turn, then its image by the class's own epoch.
        turn, position = divmod(step * batch + place, len(groups))
        number = int(_shuffle((seed, TURN_STREAM, turn), len(groups))[position])
        epoch, at = divmod(turn, len(groups[number]))
        rows[place] = groups[number][_shuffle((seed, MEMBER_STREAM, number, epoch), len(groups[number]))[at]]
    return rows


def draw_by_root(groups: Sequence[Rows], batch: int, seed: int, step: int) -> Rows:
    """Return the rows [batch] of a step, drawn with replacement. A class's share follows the root of its images.

    `groups`: rows per class, int64 [n], n above 0. Source: square-root sampling, Kang et al. 2020 (arXiv 1910.09217).
    """
    # An image's weight: the class's root, divided among its n images.
    weights = np.concatenate([np.full(len(own), len(own) ** -0.5) for own in groups])
    draws = np.random.default_rng((seed, ROOT_STREAM, step))
    found: Rows = draws.choice(np.concatenate(groups), batch, p=weights / weights.sum())
    return found


@lru_cache(64)
def _shuffle(stream: tuple[int, ...], count: int) -> Rows:
    """Return 0 to count - 1 in the random order of a stream of random numbers."""
    return np.random.default_rng(stream).permutation(count)


@dataclass(frozen=True)
class EpochSampler:
    """Every epoch takes each example once, in its own order; a share of the captions is dropped.

    With `groups`, the rows of each class, `balanced` chooses the rows: `draw_by_class` or `draw_by_root`.
    """

    examples: Examples
    batch: int
    prompt_dropout: float
    seed: int
    groups: tuple[Rows, ...] = ()
    balanced: Callable[[Sequence[Rows], int, int, int], Rows] = draw_by_class

    @property
    def shape(self) -> torch.Size:
        """Shape of a batch's latents, [B, C, H, W]."""
        return torch.Size((self.batch, *self.examples.latents.shape[1:]))

    def draw(self, step: int) -> Batch:
        """Return the batch of a step."""
        # All processes draw the same rows; an epoch's order follows from the seed.
        if self.groups:
            rows = self.balanced(self.groups, self.batch, self.seed, step)
        else:
            rows = draw_rows(len(self.examples), self.batch, self.seed, step)
        captions = [self.examples.captions[place] for place in self.examples.chosen[rows]]

        # Drop some captions, so that the network also learns the empty prompt (Ho and Salimans 2022).
        kept = numpy_draws(self.seed, step).random(self.batch) >= self.prompt_dropout
        texts = [caption if keep else "" for caption, keep in zip(captions, kept, strict=True)]
        return Batch(rows, texts, kept)

    def load(self, rows: Rows) -> Tensor:
        """Return the clean latents of rows [B], [B, C, H, W]."""
        return self.examples.take(rows)[0]
