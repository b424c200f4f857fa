"""Count classes per split, and decide how many images a recipe requests to fill the tail."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ImagesError
from tailforge.schemas.recipe import MASK_VALUES, MOST_IMAGES, MOST_WANTED

FILLS = ("median", "largest")


@dataclass(frozen=True)
class ClassCount:
    """One class: the photographs per split, and the images requested so that its training photographs fill up."""

    name: str
    splits: Mapping[str, int]
    requested: int = 0

    @property
    def total(self) -> int:
        """Return the photographs of all splits."""
        return sum(self.splits.values())

    @property
    def train(self) -> int:
        """Return the photographs of the training split."""
        return self.splits.get("train", 0)


@dataclass(frozen=True)
class Tail:
    """All classes by falling number of training photographs, and the number that the tail is filled up to.

    `left_out`: classes below the target that a recipe has no room for.
    """

    classes: tuple[ClassCount, ...]
    target: int
    left_out: tuple[str, ...] = ()

    @property
    def rare(self) -> tuple[ClassCount, ...]:
        """Return the classes with requested images, the rarest first."""
        return tuple(reversed([each for each in self.classes if each.requested]))

    @property
    def ratio(self) -> float:
        """Return how many times more training photographs the largest class has than the smallest."""
        return self.classes[0].train / max(1, self.classes[-1].train)


def check_fill(fill: str) -> str:
    """Return the rule. Errors: ImagesError for another word than `FILLS` or a whole number from 1 to 1,000,000."""
    if fill not in FILLS and not (fill.isascii() and fill.isdecimal() and 1 <= int(fill[:9]) <= MOST_WANTED):
        raise ImagesError(f"--fill {fill!r:.80}: give median, largest, or a number of images from 1 to {MOST_WANTED:,}")
    return fill


def measure_tail(labels: Sequence[str], splits: Sequence[str], fill: str = "median") -> Tail:
    """Return the classes with their counts and requested images.

    `fill`: every class is filled up to the training photographs of the class in the middle (median; of two in the
    middle the larger), of the largest class, or up to a number. Concepts that a recipe has no room for, beyond the
    rarest 254, request nothing.
    Errors: ImagesError if no class is below the target, or the requested images exceed what a recipe makes.
    """
    counted: dict[str, Counter[str]] = {}
    for label, split in zip(labels, splits, strict=True):
        counted.setdefault(label, Counter())[split] += 1
    counts = [ClassCount(name, dict(splits)) for name, splits in counted.items()]
    counts.sort(key=lambda each: (-each.train, each.name))

    target = _find_target(counts, fill)
    short = [each for each in reversed(counts) if each.train < target]
    if not short:
        raise ImagesError(
            f"no class has fewer training photographs than {target:,} ({fill}), so there is no tail to fill: "
            f"{_describe_range(counts)}; name what to fill up to, such as --fill "
            f"{'largest' if fill == 'median' and counts[0].train > target else 2 * counts[0].train}"
        )

    requested = {each.name: min(target - each.train, MOST_WANTED) for each in short[:MASK_VALUES]}
    if (whole := sum(requested.values())) > MOST_IMAGES:
        raise ImagesError(
            f"to fill every class up to {target:,} ({fill}) takes {count_of(whole, 'image')}, and a recipe makes "
            f"{MOST_IMAGES:,} at most; name a smaller number, such as --fill median"
        )
    classes = tuple(ClassCount(each.name, each.splits, requested.get(each.name, 0)) for each in counts)
    return Tail(classes, target, tuple(each.name for each in short[MASK_VALUES:]))


def _find_target(counts: Sequence[ClassCount], fill: str) -> int:
    """Return the number that classes are filled up to. `counts`: by falling training photographs."""
    check_fill(fill)
    if fill == "largest":
        return counts[0].train
    return counts[(len(counts) - 1) // 2].train if fill == "median" else int(fill)


def _describe_range(counts: Sequence[ClassCount]) -> str:
    if counts[0].train == counts[-1].train:
        return f"{count_of(len(counts), 'class')} of {counts[0].train:,} each"
    return f"{counts[-1].train:,} to {counts[0].train:,} in {count_of(len(counts), 'class')}"
