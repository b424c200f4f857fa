"""Plan the samples of a build: identities, seeds, partitions and the size of each round. All choices are ours.

The samples of a round use the prompts in turn, again and again, so a longer round only appends samples. A partition
holds one concept and one prompt source, so a changed template affects no other partition. It holds whole batches, so
an image never depends on the number of images requested. A longer round changes only its last, unfilled partitions.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence

from tailforge.schemas.jobs import Prompt, SampleSpec
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.quality import Quality

MIN_RATE = 0.05  # lowest acceptance rate for which a round is planned
MARGIN = 1.1  # planned over expected samples, so that one round mostly suffices


def identify_sample(dataset: str, seed: int, concept: str, prompt_index: int, replica: int, attempt: int) -> str:
    """Return the identity of a sample in all versions, as 16 hex digits. The prompt's text is not part of it."""
    return _hash_identity(dataset, seed, concept, prompt_index, replica, attempt)


def plan_side_samples(
    recipe: Recipe, concept: str, prompts: Sequence[Prompt], purpose: str, count: int
) -> tuple[SampleSpec, ...]:
    """Return `count` samples for a `purpose` of their own, with the prompts in turn. No version publishes them."""
    # The purpose is part of the identity, so their noise is not that of a published sample.
    planned = []
    for number in range(count):
        prompt = prompts[number % len(prompts)]
        sample_id = _hash_identity(recipe.name, recipe.seed, concept, purpose, number)
        planned.append(_sample(prompt, sample_id, number // len(prompts)))
    return tuple(planned)


def derive_copy_id(sample_id: str, copy: int) -> str:
    """Return the identity of the `copy`-th augmented copy of a sample, as 16 hex digits."""
    return _hash_identity(sample_id, "copy", copy)


def derive_repair_id(sample_id: str, image: str) -> str:
    """Return the identity of a repaired sample, as 16 hex digits. `image`: digest of the repaired image."""
    return _hash_identity(sample_id, "repair", image)


def _hash_identity(*parts: object) -> str:
    # A separator that no name holds keeps the parts apart.
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:16]


def derive_seed(sample_id: str, purpose: str = "noise") -> int:
    """Return a 63-bit seed for one of a sample's streams of random numbers."""
    # Seeds of numpy and torch are not negative.
    return int.from_bytes(hashlib.sha256(f"{sample_id}\x1f{purpose}".encode()).digest()[:8], "big") >> 1


def fraction_of(sample_id: str, purpose: str) -> float:
    """Return a number in [0, 1), uniform over samples, that depends only on sample and purpose."""
    return derive_seed(sample_id, purpose) / 2**63


def assign_split(sample_id: str, shares: dict[str, float]) -> str:
    """Return the split of a sample. Its id alone decides, so no version moves a sample between splits.

    The shares therefore hold only on average. Callers pass the parent's id for an augmented copy.
    """
    # The shares are consecutive intervals of [0, 1).
    position, total = fraction_of(sample_id, "split"), 0.0
    for name, share in shares.items():
        total += share
        if position < total:
            return name

    # Rounding may leave the sum below 1; the last split that is not empty ends at 1.
    return next(name for name, share in reversed(shares.items()) if share > 0)


def plan_round(
    recipe: Recipe, prompts: Sequence[Prompt], count: int, run: int | None = None
) -> list[tuple[str, range]]:
    """Return the partitions (source, numbers of its samples) for at least `count` samples of one concept.

    `plan_slice` turns the numbers into samples. Each source fills whole batches of the engine, so every sample keeps
    its batch in a longer round. Order: by first appearance of the source, then by number. `run`: samples of the concept
    per run of an inversion, which are then batch and partition.
    """
    # Samples per source, with the prompts in turn.
    sources = [prompt.source for prompt in prompts]
    turns, rest = divmod(count, len(prompts))
    asked = Counter(sources[:rest])
    for source, prompts_of_it in Counter(sources).items():
        asked[source] += turns * prompts_of_it

    # Round up to whole batches, and cut into partitions.
    batch, size = run or recipe.engine.batch_size, run or recipe.samples_per_partition
    planned = []
    for source in dict.fromkeys(sources):
        whole = -(-asked[source] // batch) * batch
        planned += [(source, range(start, min(start + size, whole))) for start in range(0, whole, size)]
    return planned


def turn_prompts(recipe: Recipe, concept: str, prompts: Sequence[Prompt], attempt: int) -> list[Prompt]:
    """Return the prompts of one round in their order: all of them, or in a steered build those of one source.

    Rounds of a steered build are small, and each source fills whole batches. So its rounds take the sources in turn,
    and the prompts of the source in an order of their own.
    """
    # Order and turn follow from the round alone, so that any sample can be planned again.
    if not recipe.allocation.steers:
        return list(prompts)
    sources = list(dict.fromkeys(prompt.source for prompt in prompts))
    first = derive_seed(_hash_identity(recipe.name, recipe.seed, concept, "sources")) % len(sources)
    source = sources[(first + attempt) % len(sources)]
    own = [prompt for prompt in prompts if prompt.source == source]
    return sorted(own, key=lambda each: _hash_identity(recipe.seed, concept, attempt, each.prompt_index))


def plan_slice(
    recipe: Recipe, concept: str, prompts: Sequence[Prompt], attempt: int, source: str, numbers: range
) -> tuple[SampleSpec, ...]:
    """Return the samples of one source with these numbers, or none if the source has no prompt.

    The samples use the source's prompts in turn.
    """
    # Sample k of P prompts is replica k // P of prompt k % P.
    own = [prompt for prompt in prompts if prompt.source == source]
    if not own:
        return ()
    return tuple(_specify(recipe, concept, own[k % len(own)], attempt, k // len(own)) for k in numbers)


def _specify(recipe: Recipe, concept: str, prompt: Prompt, attempt: int, replica: int) -> SampleSpec:
    sample_id = identify_sample(recipe.name, recipe.seed, concept, prompt.prompt_index, replica, attempt)
    return _sample(prompt, sample_id, replica)


def _sample(prompt: Prompt, sample_id: str, replica: int) -> SampleSpec:
    return SampleSpec(
        sample_id=sample_id,
        seed=derive_seed(sample_id),
        prompt_index=prompt.prompt_index,
        replica=replica,
        prompt=prompt.text,
        slots=prompt.slots,
    )


def first_round_size(wanted: int, quality: Quality) -> int:
    """Return the samples of the first round. It has a reserve if images may be rejected or no further round follows.

    Without gates and near duplicates only failed and blank images are lost, and a further round replaces them.
    """
    # Rounding first keeps 100 * 1.1 from becoming 111.
    judged = bool(quality.gates) or quality.near_duplicates is not None
    oversample = quality.oversample if judged or quality.max_rounds == 1 else 1.0
    return math.ceil(round(wanted * oversample, 6))


def next_round_size(wanted: int, accepted: int, tried: int) -> int:
    """Return the samples of a further round at the acceptance rate so far, or 0 if enough are accepted."""
    if accepted >= wanted:
        return 0

    # The lower bound keeps one unlucky round from planning a huge next one.
    rate = max(accepted / tried if tried else 0.0, MIN_RATE)
    return math.ceil(round((wanted - accepted) / rate * MARGIN, 6))
