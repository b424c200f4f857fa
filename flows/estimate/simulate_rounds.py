"""Predict the images of a build and its further rounds by simulation. All choices are ours.

Verdicts of earlier partitions show the share of images that pass. The rounds are simulated many times. The share comes
from its Beta distribution, and the images that pass from the binomial distribution. The build's own rule decides the
size of the next round. The result is the mean with the 5 % and 95 % quantiles.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tailforge.flows.build.plan_partitions import samples_per_run
from tailforge.flows.estimate.rates import Interval, exactly
from tailforge.schemas.jobs import BuildContext, Prompt
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.decisions import REPAIR_SOURCE
from tailforge.tasks.artifacts.failures import LABEL
from tailforge.tasks.methods.planning.samples import next_round_size
from tailforge.tasks.stages.samples import STAGE as SAMPLES
from tailforge.tasks.stages.verdicts import STAGE as VERDICTS
from tailforge.tasks.stages.verdicts import describe_gates

PLAYS = 400  # simulations
OF_ELSEWHERE = 20.0  # most images as which verdicts of other concepts count
OF_OTHER_RULES = 5.0  # the same for verdicts with other gates or another generator, and for the recipe's own guess
REASON = "reason:"


@dataclass(frozen=True)
class Yield:
    """Evidence on a concept's images: weighted counts `passed` and `rejected` by the absolute gates, with a `basis`."""

    concept: str
    passed: float
    rejected: float
    basis: str

    @property
    def share(self) -> float:
        """Return the expected share of images that pass, 0..1 (Jeffreys' prior)."""
        return (self.passed + 0.5) / (self.passed + self.rejected + 1)


@dataclass(frozen=True)
class Standing:
    """The state of a build: the current round, and per concept the images planned so far, judged and passed."""

    attempt: int
    planned: Mapping[str, int]
    judged: Mapping[str, int]
    passed: Mapping[str, int]


@dataclass(frozen=True)
class Further:
    """The work after the current round. `accepted`: images of the version. `rounds`: all rounds of the build."""

    partitions: Interval
    images: Interval
    accepted: Interval
    rounds: Interval


def find_standing(
    receipts: Sequence[Receipt], open_labels: Sequence[str], open_rows: float, first: Mapping[str, int]
) -> Standing:
    """Return the state of a build from its receipts and from the labels of open partitions with `open_rows` rows each.

    `first`: images of the first round per concept, the only ones planned before a further round begins.
    """
    # Count images and verdicts per concept; repairs are no part of a round.
    made, judged, rejected = Counter[str](), Counter[str](), Counter[str]()
    attempt = 0
    for receipt in receipts:
        named = LABEL.match(receipt.label)
        if named is None or named["source"] == REPAIR_SOURCE:
            continue
        attempt = max(attempt, int(named["round"]))
        if receipt.stage == SAMPLES.name:
            made[named["concept"]] += receipt.rows
        elif receipt.stage == VERDICTS.name:
            judged[named["concept"]] += receipt.rows
            rejected[named["concept"]] += count_rejected(receipt)

    # Open partitions are planned as well.
    opened: defaultdict[str, float] = defaultdict(float)
    for label in open_labels:
        if named := LABEL.match(label):
            attempt = max(attempt, int(named["round"]))
            opened[named["concept"]] += open_rows

    planned = {
        name: max(made[name] + round(opened[name]), count) if attempt else count for name, count in first.items()
    }
    passed = {name: judged[name] - rejected[name] for name in first}
    return Standing(attempt, planned, {name: judged[name] for name in first}, passed)


def find_yields(context: BuildContext, drawn: str, verdicts: Sequence[Receipt]) -> dict[str, Yield]:
    """Return the evidence on each concept. `drawn`: the `like` of the build's samples."""
    # Separate verdicts by this build's gates and generator from others.
    gates = describe_gates(context)
    same: defaultdict[str, list[Receipt]] = defaultdict(list)
    other: defaultdict[str, list[Receipt]] = defaultdict(list)
    for receipt in verdicts:
        named = LABEL.match(receipt.label)
        if named is not None and receipt.rows:
            ours = (receipt.details.get("gates"), receipt.details.get("drawn")) == (gates, drawn)
            (same if ours else other)[named["concept"]].append(receipt)
    return {c.name: _find_yield(context, c.name, same, other) for c in context.recipe.concepts}


def _find_yield(
    context: BuildContext,
    concept: str,
    same: Mapping[str, Sequence[Receipt]],
    other: Mapping[str, Sequence[Receipt]],
) -> Yield:
    # The best evidence first; the recipe's own guess is the last.
    quality = context.recipe.quality
    if concept in same:
        return _weigh(concept, same[concept], math.inf, "verdicts of this concept by these gates and generator")
    if same:
        everything = [receipt for own in same.values() for receipt in own]
        return _weigh(concept, everything, OF_ELSEWHERE, "verdicts of other concepts by these gates and generator")
    if not quality.gates:
        return Yield(concept, 1000.0, 0.0, "no quality gates")
    if concept in other:
        return _weigh(concept, other[concept], OF_OTHER_RULES, "verdicts of this concept by other gates or generators")
    passed = OF_OTHER_RULES / quality.oversample
    return Yield(concept, passed, OF_OTHER_RULES - passed, "the recipe's oversample, before the first verdicts")


def _weigh(concept: str, receipts: Sequence[Receipt], most: float, basis: str) -> Yield:
    rows, rejected = sum(each.rows for each in receipts), sum(map(count_rejected, receipts))
    weight = min(1.0, most / rows)
    return Yield(concept, (rows - rejected) * weight, rejected * weight, f"{rows} {basis}")


def count_rejected(receipt: Receipt) -> int:
    """Return the number of rejected images of a partition, from the receipt of its verdicts."""
    return sum(count for name, count in receipt.counts.items() if name.startswith(REASON))


def whole_build_share(context: BuildContext, selections: Sequence[Receipt]) -> float:
    """Return the share of images past the absolute gates that quantiles and near duplicates do not reject.

    The recipe states the quantiles. Earlier `selections` show the near duplicates.
    """
    share = 1.0
    for gate in context.recipe.quality.gates.values():
        share *= (1 if gate.max_quantile is None else gate.max_quantile) - (gate.min_quantile or 0)
    near = sum(
        each.counts.get(f"{REASON}{name}", 0) for each in selections for name in ("near_duplicate", "near_reference")
    )
    rows = sum(each.rows for each in selections)
    return max(share, 0.0) * (1 - near / rows if rows else 1.0)


def expect_further(
    context: BuildContext,
    prompts: Mapping[str, Sequence[Prompt]],
    standing: Standing,
    yields: Mapping[str, Yield],
    kept: float,
) -> Further:
    """Simulate the further rounds. `kept`: the share of `whole_build_share`."""
    # With many concepts the totals vary less, so fewer simulations suffice.
    random = np.random.default_rng(0)
    plays = max(PLAYS // 10, min(PLAYS, 20 * PLAYS // len(context.recipe.concepts)))
    played = np.array([_play(context, prompts, standing, yields, kept, random) for _ in range(plays)], float)
    return Further(*(_summarise(column) for column in played.T))


def _play(
    context: BuildContext,
    prompts: Mapping[str, Sequence[Prompt]],
    standing: Standing,
    yields: Mapping[str, Yield],
    kept: float,
    random: np.random.Generator,
) -> tuple[int, int, int, int]:
    """Return partitions, images, accepted images and rounds of one simulation."""
    recipe = context.recipe
    partitions, images, accepted, rounds = 0, 0, 0, standing.attempt + 1
    for concept in recipe.concepts:
        # Draw the concept's share, and the images of the current round that pass.
        known = yields[concept.name]
        share = random.beta(known.passed + 0.5, known.rejected + 0.5) * kept
        tried = standing.planned[concept.name]
        passed = round(standing.passed[concept.name] * kept)
        passed += random.binomial(max(tried - standing.judged[concept.name], 0), share)

        # Rounds follow until enough images pass.
        for attempt in range(standing.attempt + 1, recipe.quality.max_rounds):
            if passed >= concept.wanted:
                break
            rows, steps = shape_round(context, prompts[concept.name], next_round_size(concept.wanted, passed, tried))
            passed += random.binomial(rows, share)
            tried += rows
            images += rows
            partitions += steps
            rounds = max(rounds, attempt + 1)
        accepted += min(passed, concept.wanted)
    return partitions, images, accepted, rounds


def shape_round(context: BuildContext, prompts: Sequence[Prompt], size: int) -> tuple[int, int]:
    """Return rows and partitions of a round of `size` images of a concept. Every prompt source fills whole batches."""
    # As in plan_round of tasks/methods/planning/samples.py, without a list of partitions.
    recipe, run = context.recipe, samples_per_run(context)
    batch, most = run or recipe.engine.batch_size, run or recipe.samples_per_partition
    turns, rest = divmod(size, len(prompts))
    asked = Counter(prompt.source for prompt in prompts[:rest])
    if turns:
        asked.update({source: turns * count for source, count in Counter(each.source for each in prompts).items()})
    whole = [math.ceil(count / batch) * batch for count in asked.values()]
    return sum(whole), sum(math.ceil(rows / most) for rows in whole)


def _summarise(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Interval:
    low, high = np.quantile(values, (0.05, 0.95))
    mean = float(values.mean())
    return exactly(mean) if low == high == mean else Interval(mean, min(float(low), mean), max(float(high), mean))
