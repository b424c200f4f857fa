"""Decide which images pass: absolute gates per image, then the decisions that need the whole build. Our choices.

The order in the whole build: quantile gates, decisions of persons, repairs, near duplicates, preferences, quota. All
steps walk the samples in the order of the plan (round, replica, prompt), so the plan's partitions decide nothing.
Decisions read columns and not rows, since a build may have a million samples.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.gates import GATES, Gate
from tailforge.tasks.methods.planning.samples import assign_split
from tailforge.tasks.methods.quality.near_duplicates import find_near_duplicates

REPAIRED = "repaired"
REVIEW_REJECTED = "review_rejected"
NO_IMAGE = ("failed", "blank")  # reasons that are facts; a person may overrule the others

Scores = Mapping[str, float | None]
Numbers = NDArray[np.int64]
Bound = NDArray[np.float64]
Reasons = NDArray[np.object_]

# Samples as the whole-build decision reads them, with a column (float64) per gate with a quantile.
CANDIDATES = pa.schema(
    [
        ("sample_id", pa.string()),
        ("concept", pa.string()),
        ("attempt", pa.int32()),
        ("replica", pa.int32()),
        ("prompt_index", pa.int32()),
        ("phash", pa.uint64()),
        ("reason", pa.string()),  # of its verdict, null if it passed so far
        ("parent", pa.string()),  # the sample that a repaired one replaces; it takes that one's place in the plan
        ("review", pa.string()),  # a person's decision: accept or reject
        ("passed_over", pa.string()),  # why a steered build does not keep it
        ("source", pa.string()),  # group or digest of the photograph that it was drawn into
        ("source_split", pa.string()),  # that photograph's split
    ]
)
# The final decision on a sample: its split, or the one reason why it is left out.
CHOICES = pa.schema([("reason", pa.string()), ("split", pa.string())])


def first_failed_gate(gates: Mapping[str, Gate], names: Sequence[str], scores: Scores) -> str | None:
    """Return `<gate>_low` or `<gate>_high` of the first gate of `names` that the scores miss, or None.

    A score of None passes. NaN (of a classifier with non-finite logits) misses every bound.
    """
    for name in names:
        gate, score = gates.get(name), scores.get(name)
        if gate is None or score is None:
            continue
        # `not >=` in place of `<`, so that NaN misses the bound.
        if gate.min is not None and not score >= gate.min:
            return f"{name}_low"
        if gate.max is not None and not score <= gate.max:
            return f"{name}_high"
    return None


def quantile_names(recipe: Recipe) -> list[str]:
    """Return the gates with a quantile, in the order of GATES."""
    gates = recipe.quality.gates
    return [n for n in GATES if n in gates and (gates[n].min_quantile, gates[n].max_quantile) != (None, None)]


def select(recipe: Recipe, candidates: pa.Table, reference_hashes: Sequence[int] = ()) -> pa.Table:
    """Return CHOICES for all samples of a build, in the order of `candidates`; that order decides nothing."""
    # Each rule may only add a reason to samples that are still open; reviews alone remove one.
    concept = number_concepts(recipe, candidates)
    reasons = np.array(candidates["reason"].to_pylist(), np.object_)
    _apply_quantiles(recipe, candidates, concept, reasons)
    _honour_reviews(candidates, reasons)
    _replace_mended(candidates, reasons)

    # Near duplicates and quota prefer samples that come first in the plan.
    order = np.lexsort((concept, *(candidates[name].to_numpy() for name in ("prompt_index", "replica", "attempt"))))
    _reject_near_duplicates(recipe, candidates, reference_hashes, order, reasons)
    _pass_over(candidates, reasons)
    _reject_surplus(recipe, concept, order, reasons)
    return pa.table({"reason": pa.array(reasons, pa.string()), "split": _assign_splits(recipe, candidates, reasons)})


def number_concepts(recipe: Recipe, candidates: pa.Table) -> Numbers:
    """Return the place of each sample's concept in the recipe: int64 [samples]."""
    names = pa.array([concept.name for concept in recipe.concepts])
    return np.asarray(pc.index_in(candidates["concept"], value_set=names), np.int64)


def quantile_bounds(recipe: Recipe, candidates: pa.Table) -> dict[str, tuple[Bound | None, Bound | None]]:
    """Return the recipe's quantiles as absolute bounds, lowest and highest, per concept: [concepts].

    They are measured on the first round's samples with a score, passed or not, so later rounds and repairs do not move
    them. Non-finite scores are left out; without any finite score the bounds are infinite.
    """
    first = candidates.filter(pc.and_(pc.equal(candidates["attempt"], 0), pc.is_null(candidates["parent"])))
    concept, count = number_concepts(recipe, first), len(recipe.concepts)
    bounds = {}
    # Group the finite scores by concept, then take each group's quantiles.
    for name in quantile_names(recipe):
        gate, scores = recipe.quality.gates[name], _to_floats(first[name])
        measured = np.flatnonzero(np.isfinite(scores))
        measured = measured[np.argsort(concept[measured], kind="stable")]
        ends = np.searchsorted(concept[measured], np.arange(1, count))
        values = np.split(scores[measured], ends)
        low, high = _quantiles(values, gate.min_quantile, -math.inf), _quantiles(values, gate.max_quantile, math.inf)
        bounds[name] = (low, high)
    return bounds


def _quantiles(values: Sequence[NDArray[np.float64]], share: float | None, without: float) -> Bound | None:
    """Return the quantile per concept; None without a share, `without` for a concept without values."""
    if share is None:
        return None
    return np.array([np.quantile(own, share) if len(own) else without for own in values])


def _to_floats(scores: pa.ChunkedArray) -> NDArray[np.float64]:
    """Convert scores to float64; a missing score becomes NaN."""
    return np.asarray(scores.to_numpy(), np.float64)


def _is_open(reasons: Reasons) -> NDArray[np.bool_]:
    """Return which samples have no reason against them, bool [samples]."""
    return np.asarray(np.equal(reasons, np.array(None, np.object_)), np.bool_)


def _apply_quantiles(recipe: Recipe, candidates: pa.Table, concept: Numbers, reasons: Reasons) -> None:
    """Apply the bounds of each sample's concept, as `first_failed_gate` does: no score passes, NaN misses."""
    for name, (low, high) in quantile_bounds(recipe, candidates).items():
        scores, has_score = _to_floats(candidates[name]), np.asarray(candidates[name].is_valid())
        if low is not None:
            reasons[has_score & ~(scores >= low[concept]) & _is_open(reasons)] = f"{name}_low"
        if high is not None:
            reasons[has_score & ~(scores <= high[concept]) & _is_open(reasons)] = f"{name}_high"


def _honour_reviews(candidates: pa.Table, reasons: Reasons) -> None:
    """Reject the samples that a person rejected, and pass the gates for those that a person accepted.

    An accepted sample may still be a near duplicate or surplus: a person judges one image and not the whole build.
    """
    # A rejection needs no further reason; an acceptance removes all but facts.
    reviews = np.array(candidates["review"].to_pylist(), np.object_)
    reasons[(reviews == "reject") & _is_open(reasons)] = REVIEW_REJECTED
    reasons[(reviews == "accept") & ~np.isin(reasons, NO_IMAGE)] = None


def _replace_mended(candidates: pa.Table, reasons: Reasons) -> None:
    """Let a repaired sample that passes its gates replace its parent."""
    parents = candidates["parent"]
    # Parents of open repaired samples give up their place.
    replaced = parents.filter(pa.array(_is_open(reasons))).drop_null()
    is_replaced = pc.and_(pc.is_null(parents), pc.is_in(candidates["sample_id"], value_set=replaced.combine_chunks()))
    reasons[np.asarray(is_replaced)] = REPAIRED


def _reject_near_duplicates(
    recipe: Recipe, candidates: pa.Table, reference_hashes: Sequence[int], order: Numbers, reasons: Reasons
) -> None:
    # Hashes in the order of the plan: of near ones, the first stays.
    rule = recipe.quality.near_duplicates
    if rule is None:
        return
    has_hash = np.asarray(candidates["phash"].is_valid())
    places = order[(_is_open(reasons) & has_hash)[order]]
    hashes = candidates["phash"].fill_null(0).to_numpy()[places]
    known = np.array(reference_hashes if rule.against_references else [], np.uint64)
    near_reference, repeats = find_near_duplicates(hashes, rule.max_distance, known)
    reasons[places[near_reference]] = "near_reference"
    reasons[places[repeats]] = "near_duplicate"


def _pass_over(candidates: pa.Table, reasons: Reasons) -> None:
    """Reject the images that a steered build does not keep, unless a person accepted them."""
    # Null for kept images, and everywhere in other builds.
    marks = np.array(candidates["passed_over"].to_pylist(), np.object_)
    accepted = np.array(candidates["review"].to_pylist(), np.object_) == "accept"
    chosen = _is_open(reasons) & ~_is_open(marks) & ~accepted
    reasons[chosen] = marks[chosen]


def _reject_surplus(recipe: Recipe, concept: Numbers, order: Numbers, reasons: Reasons) -> None:
    # Count each concept's accepted samples in the order of the plan; those past the quota are surplus.
    wanted = np.array([each.wanted for each in recipe.concepts])
    places = order[_is_open(reasons)[order]]
    places = places[np.argsort(concept[places], kind="stable")]  # concept by concept, each in the order of the plan
    own = concept[places]
    taken = np.arange(len(own)) - np.searchsorted(own, own)
    reasons[places[taken >= wanted[own]]] = "surplus"


def _assign_splits(recipe: Recipe, candidates: pa.Table, reasons: Reasons) -> pa.Array:
    # A repaired sample keeps the split of its parent, and one that was drawn into a photograph follows that.
    shares = {str(name): share for name, share in recipe.splits.items()}
    splits: Any = np.full(len(reasons), None, np.object_)
    accepted = _is_open(reasons)
    chosen = candidates.filter(pa.array(accepted))
    ids = pc.coalesce(chosen["source"], chosen["parent"], chosen["sample_id"]).to_pylist()
    known = chosen["source_split"].to_pylist()
    splits[accepted] = [own or assign_split(each, shares) for own, each in zip(known, ids, strict=True)]
    return pa.array(splits, pa.string())


def count_accepted(selection: pa.Table) -> dict[str, int]:
    """Count the accepted samples of every concept in a SELECTION table (columns `concept` and `accepted`)."""
    # A concept without accepted samples counts 0.
    counts = dict.fromkeys(selection["concept"].to_pylist(), 0)
    for concept, accepted in zip(selection["concept"].to_pylist(), selection["accepted"].to_pylist(), strict=True):
        counts[concept] += accepted
    return counts
