"""Find twins among photographs: near copies, also recompressed, resized or mirrored."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.images.measures import Measures
from tailforge.tasks.methods.quality.likeness import LEAST_CORRELATION, read_luma, standardise
from tailforge.tasks.methods.quality.near_duplicates import find_near

MAX_DISTANCE = 10  # bits that recompressing and resizing change at most; our choice, since correlation decides
MOST_APART = 8.0  # grey levels between two small pictures, root mean square
MOST_PARTNERS = 3  # earlier twins listed per photograph, the most similar ones
MOST_COMPARED = 64  # earlier photographs with the nearest hashes that are compared with one
BLOCK = 256  # photographs compared at once: bounds memory


@dataclass(frozen=True)
class Twin:
    """A pair of places in their source, `one` before `other`; `mirrored`: one is like the other's mirror image."""

    one: int
    other: int
    mirrored: bool


def find_twins(measures: Measures) -> list[Twin]:
    """Return the pairs of near copies: hashes of at most 10 different bits, and small pictures that agree.

    They agree if they correlate by 0.98 and differ by 8 grey levels at most (root mean square). A photograph is paired
    with at most 3 earlier ones, so that a large set of copies has few pairs.
    """
    luma = read_luma(measures.small)
    patterns = standardise(luma)
    places = measures.places.tolist()
    found: dict[tuple[int, int], Twin] = {}

    # Once as they are, once against mirror images. Of all partners the most similar ones count.
    for mirrored, known in ((False, measures.hashes), (True, measures.mirrored)):
        step = -1 if mirrored else 1
        for row, partners in _find_partners(measures.hashes, known, least=0 if mirrored else 1):
            own = np.einsum("yx,nyx->n", patterns[row], patterns[partners, :, ::step])
            apart = np.sqrt(((luma[row] - luma[partners, :, ::step]) ** 2).mean(axis=(1, 2)))
            own[apart > MOST_APART] = -1
            best = np.argsort(-own, kind="stable")[:MOST_PARTNERS]
            for partner in partners[best[own[best] >= LEAST_CORRELATION]].tolist():
                found.setdefault((partner, row), Twin(places[partner], places[row], mirrored))
    return [found[pair] for pair in sorted(found)]


def _find_partners(
    hashes: NDArray[np.uint64], known: NDArray[np.uint64], least: int
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Yield rows of `hashes` with the earlier rows of `known` that are near, int [partners].

    `least`: smallest distance that tells of a partner, unless two photographs have one hash: 1 if `known` is `hashes`.
    """
    # Most photographs have no twin, which is found fast.
    values, place, count = np.unique(hashes, return_inverse=True, return_counts=True)
    alike = find_near(values, known, MAX_DISTANCE, least=least) | (count > 1)
    rows = np.flatnonzero(alike[place])

    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        earlier = np.arange(block[-1])
        distance = np.bitwise_count(hashes[block, None] ^ known[None, earlier])
        near = (distance <= MAX_DISTANCE) & (earlier[None] < block[:, None])
        for row in np.flatnonzero(near.any(axis=1)):
            partners = np.flatnonzero(near[row])
            yield int(block[row]), partners[np.argsort(distance[row, partners], kind="stable")[:MOST_COMPARED]]
