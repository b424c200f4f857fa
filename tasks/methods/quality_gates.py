"""Which images pass: absolute gates image by image, then what only the whole build can decide. Choices are ours.

Whole-build order: quantile gates, decisions of persons, repairs, near duplicates, quota. All of it walks the samples in
the order of the plan (round, replica, prompt), so the outcome does not depend on how the plan was cut into partitions.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.quality import GATES, Gate
from schemas.recipe import Recipe
from schemas.review import Verdict
from tasks.methods.plan_samples import assign_split

CHEAP_GATES = GATES[:4]
CLIP_GATES = GATES[4:8]
LABEL_GATES = GATES[8:10]
MASK_GATES = GATES[10:]

REPAIRED = "repaired"
REVIEW_REJECTED = "review_rejected"
NO_IMAGE = ("failed", "blank")  # reasons that are facts, where gates are opinions that a person may overrule
BLOCK = 256  # hashes compared at once: bounds memory

Scores = Mapping[str, float | None]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample as the whole-build decision sees it; `reason` is that of its verdict, None when it passed so far.

    `parent`: the sample that a mended one stands in for; it has that one's place in the plan. `review`: what a person
    decided on it.
    """

    sample_id: str
    concept: str
    attempt: int
    replica: int
    prompt_index: int
    phash: int | None
    scores: Scores
    reason: str | None
    parent: str | None = None
    review: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The last word on a sample: its split, or the one reason why it is left out."""

    reason: str | None
    split: str | None


def first_failed_gate(gates: Mapping[str, Gate], names: Sequence[str], scores: Scores) -> str | None:
    """`<gate>_low` or `<gate>_high` of the first gate of `names` that the scores miss.

    A score of None passes, NaN (of a classifier whose logits are not finite) misses every bound.
    """
    for name in names:
        gate, score = gates.get(name), scores.get(name)
        if gate is None or score is None:
            continue
        if gate.min is not None and not score >= gate.min:
            return f"{name}_low"
        if gate.max is not None and not score <= gate.max:
            return f"{name}_high"
    return None


def select(recipe: Recipe, candidates: Sequence[Candidate], reference_hashes: Sequence[int] = ()) -> list[Choice]:
    """Decide on all samples of a build; the answers are in the order of `candidates`, which itself decides nothing."""
    by_concept: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        by_concept[candidate.concept].append(candidate)
    thresholds = {concept: quantile_gates(recipe, own) for concept, own in by_concept.items()}
    reasons = [
        candidate.reason or first_failed_gate(thresholds[candidate.concept], GATES, candidate.scores)
        for candidate in candidates
    ]
    _honour_reviews(candidates, reasons)
    _replace_mended(candidates, reasons)
    order = _plan_order(recipe, candidates)
    _reject_near_duplicates(recipe, candidates, reference_hashes, order, reasons)
    _reject_surplus(recipe, candidates, order, reasons)
    shares = {str(name): share for name, share in recipe.splits.items()}
    return [
        Choice(reason, None if reason else assign_split(candidate.parent or candidate.sample_id, shares))
        for candidate, reason in zip(candidates, reasons, strict=True)
    ]


def quantile_gates(recipe: Recipe, candidates: Sequence[Candidate]) -> dict[str, Gate]:
    """The recipe's quantiles as absolute bounds for one concept.

    Measured on the samples of the first round that have the score, passed or not: no later round or repair moves them.
    A score that is not finite is not measured; where no other is left, the bounds are infinite.
    """
    bounds = {}
    for name, gate in recipe.quality.gates.items():
        if gate.min_quantile is None and gate.max_quantile is None:
            continue
        first = [c for c in candidates if c.attempt == 0 and c.parent is None]
        known = [score for c in first if (score := c.scores.get(name)) is not None]
        values = [score for score in known if math.isfinite(score)]
        low, high = _quantile(values, gate.min_quantile, -math.inf), _quantile(values, gate.max_quantile, math.inf)
        bounds[name] = Gate.model_construct(min=low, max=high)
    return bounds


def _quantile(values: Sequence[float], share: float | None, without: float) -> float | None:
    """None for no share, `without` for no values."""
    if share is None:
        return None
    return float(np.quantile(np.asarray(values, np.float64), share)) if values else without


def find_near_duplicates(
    hashes: Hashes, max_distance: int, known: Hashes
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which hashes are near one of `known`, and which (of the others) near an earlier one that is kept.

    A hash that is left out leaves nothing out itself: of three in a chain the first and the last stay.
    """
    near_known = np.zeros(len(hashes), np.bool_)
    for start in range(0, len(hashes), BLOCK):
        near_known[start : start + BLOCK] = _any_near(hashes[start : start + BLOCK], known, max_distance)
    repeats = np.zeros(len(hashes), np.bool_)
    kept = np.empty(len(hashes), np.uint64)
    total = 0
    for start in range(0, len(hashes), BLOCK):
        block = hashes[start : start + BLOCK]
        repeats[start : start + BLOCK] = _any_near(block, kept[:total], max_distance)
        near = np.bitwise_count(block[:, None] ^ block[None, :]) <= max_distance
        chosen: list[int] = []
        for row in np.flatnonzero(~near_known[start : start + BLOCK]):
            if not repeats[start + row]:
                if near[row, chosen].any():
                    repeats[start + row] = True
                else:
                    chosen.append(int(row))
        kept[total : total + len(chosen)] = block[chosen]
        total += len(chosen)
    return near_known, repeats & ~near_known


def _any_near(block: Hashes, others: Hashes, max_distance: int) -> NDArray[np.bool_]:
    found = np.zeros(len(block), np.bool_)
    for start in range(0, len(others), 64 * BLOCK):
        part = others[None, start : start + 64 * BLOCK]
        found |= (np.bitwise_count(block[:, None] ^ part) <= max_distance).any(axis=1)
    return found


def _honour_reviews(candidates: Sequence[Candidate], reasons: list[str | None]) -> None:
    """A sample that a person rejected is out, one that a person accepted passes its gates.

    It may still go as a near duplicate or as surplus: a person looks at one image and not at the whole build.
    """
    for place, candidate in enumerate(candidates):
        if candidate.review == "reject":
            reasons[place] = reasons[place] or REVIEW_REJECTED
        elif candidate.review == "accept" and reasons[place] not in NO_IMAGE:
            reasons[place] = None


def _replace_mended(candidates: Sequence[Candidate], reasons: list[str | None]) -> None:
    """A mended sample that passes its gates takes the place of the one that it was made from."""
    replaced = {c.parent for c, reason in zip(candidates, reasons, strict=True) if c.parent and reason is None}
    for place, candidate in enumerate(candidates):
        if candidate.parent is None and candidate.sample_id in replaced:
            reasons[place] = REPAIRED


def _plan_order(recipe: Recipe, candidates: Sequence[Candidate]) -> list[int]:
    classes = {concept.name: index for index, concept in enumerate(recipe.concepts)}
    keys = [(c.attempt, c.replica, c.prompt_index, classes[c.concept]) for c in candidates]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _reject_near_duplicates(
    recipe: Recipe,
    candidates: Sequence[Candidate],
    reference_hashes: Sequence[int],
    order: Sequence[int],
    reasons: list[str | None],
) -> None:
    rule = recipe.quality.near_duplicates
    if rule is None:
        return
    places = [i for i in order if reasons[i] is None and candidates[i].phash is not None]
    hashes = np.array([candidates[i].phash for i in places], np.uint64)
    known = np.array(reference_hashes if rule.against_references else [], np.uint64)
    near_reference, repeats = find_near_duplicates(hashes, rule.max_distance, known)
    for i, is_reference, is_repeat in zip(places, near_reference, repeats, strict=True):
        if is_reference or is_repeat:
            reasons[i] = "near_reference" if is_reference else "near_duplicate"


def _reject_surplus(
    recipe: Recipe, candidates: Sequence[Candidate], order: Sequence[int], reasons: list[str | None]
) -> None:
    wanted = {concept.name: concept.wanted for concept in recipe.concepts}
    taken: Counter[str] = Counter()
    for i in order:
        if reasons[i] is None:
            taken[candidates[i].concept] += 1
            if taken[candidates[i].concept] > wanted[candidates[i].concept]:
                reasons[i] = "surplus"


def count_accepted(selection: pa.Table) -> dict[str, int]:
    """Accepted samples of every concept in a SELECTION table (columns `concept` and `accepted`)."""
    counts = dict.fromkeys(selection["concept"].to_pylist(), 0)
    for concept, accepted in zip(selection["concept"].to_pylist(), selection["accepted"].to_pylist(), strict=True):
        counts[concept] += accepted
    return counts
