"""Put the places of regions in words, as PTP does: "the block [P] has a [O]", in 3 x 3 blocks.

Source: arXiv 2212.09737, section 3.1.

Our choices: the block is that of a region's centroid, not of a detector's box. A region is drawn in proportion to its
confidence. PTP cuts captions to 22 words, so that the sentence after them is never cut off; we do the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailforge.tasks.methods.pretraining.regions import Areas

GRID = 3  # blocks per row and per column
AWAY = -1  # the block of a region that the view does not show
CAPTION_WORDS = 22

Placed = Mapping[str, float]  # true sentences of an image, with the confidence of their regions


@dataclass(frozen=True)
class Spoken:
    """The texts of a batch: `texts` [B], each the caption and, if a region is in view, one sentence.

    `true` bool [B, B]: is text m true of image n? `sentences` [S] put every noun of the batch in every block. `targets`
    [B, S] holds the confidence of an image's true sentences.
    """

    texts: list[str]
    true: Tensor
    sentences: list[str]
    targets: Tensor


def say(block: int, noun: str) -> str:
    """Return the sentence of PTP."""
    return f"the block {block} has a {noun}"


def say_everywhere(nouns: Sequence[str]) -> list[str]:
    """Return the sentences of every noun in every block."""
    return [say(block, noun) for noun in nouns for block in range(GRID**2)]


def shorten(caption: str) -> str:
    """Return the caption's first words."""
    return " ".join(caption.split()[:CAPTION_WORDS])


def locate_blocks(areas: Areas) -> NDArray[np.int64]:
    """Return the block of each region's centroid, 3 x row + column: [B, R] of [B, R, H, W]; AWAY without a pixel."""
    # Mean row and column of a region's pixels, at pixel centres, in blocks.
    height, width = areas.shape[2:]
    pixels = areas.sum((2, 3))
    row = (areas.sum(3) * (np.arange(height) + 0.5)).sum(2) / np.maximum(pixels, 1) * GRID // height
    column = (areas.sum(2) * (np.arange(width) + 0.5)).sum(2) / np.maximum(pixels, 1) * GRID // width
    return np.where(pixels > 0, GRID * row + column, AWAY).astype(np.int64)


def place_nouns(
    areas: Areas, nouns: NDArray[np.int64], scores: NDArray[np.float32], names: Sequence[str]
) -> list[Placed]:
    """Return the true sentences of each view; areas [B, R, H, W], nouns and scores [B, R], `names` from noun 1 on."""
    placed: list[Placed] = []
    for blocks, own, sure in zip(locate_blocks(areas).tolist(), nouns.tolist(), scores.tolist(), strict=True):
        shown = [(block, noun, score) for block, noun, score in zip(blocks, own, sure, strict=True) if block != AWAY]
        placed.append({say(block, names[noun - 1]): score for block, noun, score in shown if score > 0})
    return placed


def speak(
    captions: Sequence[str], placed: Sequence[Placed], nouns: Sequence[str], draws: np.random.Generator
) -> Spoken:
    """Return the texts of a batch; an image chooses among the sentences of `nouns`."""
    # One sentence per image, if a region is in view.
    said = [_draw_sentence(sentences, draws) for sentences in placed]
    texts = [f"{caption}. {own}" if own else caption for caption, own in zip(captions, said, strict=True)]

    # A text is true of every image with the same caption in which its sentence holds.
    true = [
        [caption == other and (not own or own in there) for other, there in zip(captions, placed, strict=True)]
        for caption, own in zip(captions, said, strict=True)
    ]

    # All sentences of the batch, with their confidence per image.
    sentences = say_everywhere(nouns)
    targets = [[there.get(sentence, 0.0) for sentence in sentences] for there in placed]
    return Spoken(texts, torch.tensor(true), sentences, torch.tensor(targets))


def _draw_sentence(sentences: Placed, draws: np.random.Generator) -> str:
    if not sentences:
        return ""
    sure = np.array(list(sentences.values()))
    return list(sentences)[int(draws.choice(len(sure), p=sure / sure.sum()))]
