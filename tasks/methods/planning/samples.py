"""Which samples a build makes: identities, seeds, partitions and the size of each round. All choices are ours.

The samples of a round take the prompts in turn, again and again: a longer round only appends. Partitions hold one
concept and one prompt source, so that a changed template touches no other partition, and whole batches, so that an
image never depends on how many others were asked for; of a round that grew only its last, unfilled partitions change.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence

from tailforge.schemas.jobs import Prompt, SampleSpec
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.quality import Quality

MIN_RATE = 0.05  # a round is never planned for an acceptance rate below this
MARGIN = 1.1  # planned over expected, so that one round is mostly enough


def identify_sample(dataset: str, seed: int, concept: str, prompt_index: int, replica: int, attempt: int) -> str:
    """16 hex digits that identify a sample for ever; not its content, which the prompt's text also decides."""
    return _hash_identity(dataset, seed, concept, prompt_index, replica, attempt)


def plan_side_samples(
    recipe: Recipe, concept: str, prompts: Sequence[Prompt], purpose: str, count: int
) -> tuple[SampleSpec, ...]:
    """`count` samples that no version publishes, made for a `purpose` of their own; prompts in turn."""
    planned = []
    for number in range(count):
        prompt = prompts[number % len(prompts)]
        sample_id = _hash_identity(recipe.name, recipe.seed, concept, purpose, number)
        planned.append(_sample(prompt, sample_id, number // len(prompts)))
    return tuple(planned)


def derive_copy_id(sample_id: str, copy: int) -> str:
    """Identity of the `copy`-th augmented copy of a sample."""
    return _hash_identity(sample_id, "copy", copy)


def derive_repair_id(sample_id: str, image: str) -> str:
    """Identity of a mended sample; `image`: digest of what it became."""
    return _hash_identity(sample_id, "repair", image)


def _hash_identity(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:16]


def derive_seed(sample_id: str, purpose: str = "noise") -> int:
    """63-bit seed of one stream of random draws of a sample."""
    return int.from_bytes(hashlib.sha256(f"{sample_id}\x1f{purpose}".encode()).digest()[:8], "big") >> 1


def fraction_of(sample_id: str, purpose: str) -> float:
    """Uniform number in [0, 1) that depends on the sample alone."""
    return derive_seed(sample_id, purpose) / 2**63


def assign_split(sample_id: str, shares: dict[str, float]) -> str:
    """Split of a sample, from its id alone, so that no version ever moves a sample between splits.

    The price is that shares hold only on average. Augmented copies pass their parent's id.
    """
    position, total = fraction_of(sample_id, "split"), 0.0
    for name, share in shares.items():
        total += share
        if position < total:
            return name
    return next(name for name, share in reversed(shares.items()) if share > 0)


def plan_round(
    recipe: Recipe, prompts: Sequence[Prompt], count: int, run: int | None = None
) -> list[tuple[str, range]]:
    """Partitions (source, numbers of its samples) of at least `count` samples of one concept; see `plan_slice`.

    Each source is filled up to whole batches of the engine, so that no sample ever changes its batch-mates.
    Order: by first appearance of the source, then by sample number. `run`: samples that an inversion makes of the
    concept together; then these are batch and partition.
    """
    sources = [prompt.source for prompt in prompts]
    turns, rest = divmod(count, len(prompts))
    asked = Counter(sources[:rest])
    for source, prompts_of_it in Counter(sources).items():
        asked[source] += turns * prompts_of_it
    batch, size = run or recipe.engine.batch_size, run or recipe.samples_per_partition
    planned = []
    for source in dict.fromkeys(sources):
        whole = -(-asked[source] // batch) * batch
        planned += [(source, range(start, min(start + size, whole))) for start in range(0, whole, size)]
    return planned


def plan_slice(
    recipe: Recipe, concept: str, prompts: Sequence[Prompt], attempt: int, source: str, numbers: range
) -> tuple[SampleSpec, ...]:
    """The samples of one source with these numbers, its prompts in turn; none if the source wrote no prompt."""
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
    """Samples of the first round: a reserve only where some may be rejected, or where no further round would follow.

    Without gates and near duplicates nothing but a failed or blank image is lost, and a further round replaces that.
    """
    judged = bool(quality.gates) or quality.near_duplicates is not None
    oversample = quality.oversample if judged or quality.max_rounds == 1 else 1.0
    return math.ceil(round(wanted * oversample, 6))


def next_round_size(wanted: int, accepted: int, tried: int) -> int:
    """Samples of a further round for a shortfall at the acceptance rate seen so far; 0 when nothing is short."""
    if accepted >= wanted:
        return 0
    rate = max(accepted / tried if tried else 0.0, MIN_RATE)
    return math.ceil(round((wanted - accepted) / rate * MARGIN, 6))
