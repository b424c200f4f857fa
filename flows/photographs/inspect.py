"""Inspect photographs: classes, copies and twins, groups, splits, references and the bounds of gates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tailforge.catalog.images.left_out import UNREADABLE, Counter
from tailforge.catalog.images.reader import open_images
from tailforge.catalog.images.records import Images
from tailforge.catalog.images.tables import Columns
from tailforge.catalog.inspection.copies import find_copies
from tailforge.catalog.inspection.counts import Tail, check_fill, measure_tail
from tailforge.catalog.inspection.gates import derive_gates
from tailforge.catalog.inspection.groups import join_blocks, match_groups, read_pattern
from tailforge.catalog.inspection.names import name_concepts
from tailforge.catalog.inspection.sizes import Sizes, choose_network, summarise_sizes
from tailforge.catalog.inspection.splits import assign_splits, read_splits
from tailforge.catalog.sources.references import FEWEST, SMALLEST_SIDE
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ImagesError
from tailforge.schemas.options import Fit
from tailforge.schemas.settings.gates import Gate
from tailforge.schemas.settings.licences import UNKNOWN, OtherLicence
from tailforge.schemas.training.generator import PixelNetwork
from tailforge.schemas.under_way import phase
from tailforge.tasks.images.measures import Measures, choose_measured, measure_images, measure_sizes
from tailforge.tasks.images.references import Candidates, pick_references
from tailforge.tasks.images.twins import Twin, find_twins

USUAL_COLUMNS = Columns()
EXAMPLES = 3  # in a finding
EMBEDDED_SIZE = (64, 64)  # height and width that the embedded generator draws
SIZED = 500  # photographs whose headers decide how all are brought to the generator's size


@dataclass(frozen=True)
class Question:
    """What is inspected, and how. `measured`: most decoded images.

    `size`: (height, width) that the generator draws; None: that of the photographs if they are small, for a new
    network, else that of the embedded generator. `license`: of the photographs.
    """

    source: str
    store: str | None = None
    columns: Columns = USUAL_COLUMNS
    group_pattern: str | None = None
    fill: str = "median"
    references: int = 8
    measured: int = 10_000
    seed: int = 1
    size: tuple[int, int] | None = None
    license: str | OtherLicence = UNKNOWN


@dataclass(frozen=True)
class Inspection:
    """All that is known of labelled photographs; places are their positions in `images`.

    `concepts`: name per class. `labels`, `splits`, `groups`: per photograph. `copies`: sets of places with the same
    bytes. `given`: whether the source has the splits. `references`: chosen places per rare concept.
    `size`: (height, width) of drawn images; `network`: the new network that draws them, None for another generator.
    """

    question: Question
    images: Images
    concepts: Mapping[str, str]
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    groups: tuple[str | None, ...]
    given: bool
    tail: Tail
    sizes: Sizes
    size: tuple[int, int]
    network: PixelNetwork | None
    fit: Fit
    measures: Measures
    copies: tuple[tuple[int, ...], ...]
    twins: tuple[Twin, ...]
    references: Mapping[str, tuple[int, ...]]
    gates: Mapping[str, Gate]

    @property
    def origin(self) -> str:
        """Return the source as the user named it, for a person."""
        return self.question.source

    @property
    def renamed(self) -> dict[str, str]:
        """Return the concepts of classes that a recipe cannot hold by their own name."""
        return {each: name for each, name in self.concepts.items() if each != name}

    @cached_property
    def pairs(self) -> tuple[Twin, ...]:
        """Return all pairs of copies and twins: copies first, each with the first of its set."""
        same = [Twin(places[0], other, False) for places in self.copies for other in places[1:]]
        known = {(each.one, each.other) for each in same}
        return (*same, *(each for each in self.twins if (each.one, each.other) not in known))

    @cached_property
    def leaks(self) -> tuple[Twin, ...]:
        """Return the pairs across splits, one of them in train."""
        return tuple(
            each
            for each in self.pairs
            if "train" in (own := (self.splits[each.one], self.splits[each.other])) and own[0] != own[1]
        )

    @cached_property
    def conflicts(self) -> tuple[Twin, ...]:
        """Return the pairs of one picture with two classes."""
        return tuple(each for each in self.pairs if self.labels[each.one] != self.labels[each.other])


def inspect_photographs(question: Question) -> Inspection:
    """Inspect the photographs of a source; see `Inspection`. Photographs that cannot be read are left out.

    At most `question.measured` photographs are decoded: rare classes entirely, the others in equal numbers.
    Errors: ImagesError, NotFoundError, VerificationError.
    """
    # Mistakes of the options before any photograph is read.
    pattern = None if question.group_pattern is None else read_pattern(question.group_pattern)
    check_fill(question.fill)
    with phase("listing"):
        images = _open_labelled(question)
    with phase("measuring"):
        images, measures, drawing = _measure(images, question)
    given = _read_given(images)
    groups = images.groups if pattern is None else match_groups(images.ids, pattern)

    with phase("comparing"):
        copies = tuple(find_copies(images))
        twins = tuple(find_twins(measures))

    # Splits follow groups and twins; names are those of the recipe.
    labels_as_found = [str(label) for label in images.labels]
    concepts = name_concepts(sorted(set(labels_as_found)))
    labels = tuple(concepts[label] for label in labels_as_found)
    together = [*copies, *((each.one, each.other) for each in twins)]
    blocks = join_blocks(len(images), groups, together)
    splits = given or assign_splits(labels, blocks, question.seed)

    # What the recipe requests, and what it takes from the training photographs.
    tail = measure_tail(labels, splits, question.fill)
    wanted = [each.name for each in tail.rare]
    candidates = Candidates(measures, labels, splits, join_blocks(len(images), (), together), SMALLEST_SIDE)
    train = [row for row, place in enumerate(measures.places.tolist()) if splits[place] == "train"]
    return Inspection(
        question, images, concepts, labels, splits, groups, given is not None, tail, summarise_sizes(measures.shown),
        drawing.size, drawing.network, drawing.fit, measures, copies, twins,
        pick_references(candidates, wanted, question.references),
        derive_gates({name: values[train] for name, values in measures.scores.items()}),
    )  # fmt: skip


def _open_labelled(question: Question) -> Images:
    """Return the photographs with a label. Errors: ImagesError without any."""
    store = question.store if "@" in question.source else None  # else a missing folder would be a missing dataset
    images = open_images(question.source, store=store, columns=question.columns)
    if images.found.labels is None:
        raise ImagesError(images.found.absent.get("label", f"{images.origin} has no labels"))
    labelled = images.with_labels()
    if not len(labelled):
        images.require_labels()
    return labelled


@dataclass(frozen=True)
class _Drawing:
    """Size (height, width) of drawn images, the new network that draws them, how photographs are brought to it."""

    size: tuple[int, int]
    network: PixelNetwork | None
    fit: Fit


def _plan_drawing(headers: Sequence[tuple[int, int, int]], question: Question) -> _Drawing:
    """Return how images are drawn. `headers`: width, height and channels of some photographs."""
    if not headers:
        return _Drawing(question.size or EMBEDDED_SIZE, None, "crop")
    sizes = summarise_sizes(headers)
    network = choose_network(sizes) if question.size is None else None
    size = network.size if network else question.size or EMBEDDED_SIZE
    return _Drawing(size, network, sizes.choose_fit(size[::-1]))


def _measure(images: Images, question: Question) -> tuple[Images, Measures, _Drawing]:
    """Return the photographs without unreadable ones, their measures, and how images like them are drawn."""
    places = choose_measured(images, question.measured, question.seed)
    headers = measure_sizes(images, places[:: max(1, len(places) // SIZED)])
    drawing = _plan_drawing(headers, question)
    measures = measure_images(images, places, drawing.size, drawing.fit)
    if not measures.failures:
        return images, measures, drawing

    counter = Counter()
    for place, reason in measures.failures.items():
        counter.add(UNREADABLE, images.sources[place], reason)
    if not len(measures.places):
        raise ImagesError(f"no photograph of {images.origin} can be read: {counter.report().first_error()}")
    kept = [place for place in range(len(images)) if place not in measures.failures]
    position = {place: new for new, place in enumerate(kept)}
    rest = images.select(kept)
    rest = replace(rest, left_out=images.left_out.joined(counter.report()))
    return rest, measures.moved(position), drawing


def _read_given(images: Images) -> tuple[str, ...] | None:
    """Return the splits of the source; None without. Errors: ImagesError for splits of a part of the photographs."""
    splits = read_splits(images.splits)
    if splits is not None and len(splits) < len(images):
        place = images.splits.index(None)
        raise ImagesError(
            f"{count_of(len(images) - len(splits), 'photograph')} of {images.origin} have no split, such as "
            f"{images.sources[place]}, and others have one; give each a split, or none"
        )
    return splits


def name_of(inspection: Inspection, place: int) -> str:
    """Return the name of a photograph for a person: its id in the source."""
    return inspection.images.ids[place]


def describe_findings(inspection: Inspection) -> list[str]:
    """Return one sentence per thing that a person should look at; empty without any."""
    # Twins with a fault.
    leaks, conflicts = inspection.leaks, inspection.conflicts
    lines = []
    if leaks:
        lines.append(
            f"leaks: {count_of(len(leaks), 'twin')} across train and another split: {_examples(inspection, leaks)}"
        )
    if conflicts:
        lines.append(
            f"contradictions: {count_of(len(conflicts), 'pair')} of one picture with two classes: "
            f"{_examples(inspection, conflicts)}"
        )

    # What differs from the source, and what is missing.
    if renamed := [f"class {one!r} is concept {other!r}" for one, other in inspection.renamed.items()]:
        lines.append(f"renamed: {_shorten(renamed)}")
    if few := [each.name for each in inspection.tail.rare if len(inspection.references.get(each.name, ())) < FEWEST]:
        lines.append(f"fewer than {FEWEST} references, too few for a search: {_shorten(few)}")
    if inspection.tail.left_out:
        lines.append(
            f"{count_of(len(inspection.tail.left_out), 'rare class')} beyond the rarest 254 request nothing, since a "
            "mask has no more values"
        )
    return [*lines, *(f"left out: {line}" for line in inspection.images.left_out.lines())]


def _examples(inspection: Inspection, pairs: Sequence[Twin]) -> str:
    return _shorten([f"{name_of(inspection, each.one)} and {name_of(inspection, each.other)}" for each in pairs])


def _shorten(texts: Sequence[str]) -> str:
    """Return the first texts, and the number of the others."""
    more = f"; and {len(texts) - EXAMPLES:,} more" if len(texts) > EXAMPLES else ""
    return "; ".join(texts[:EXAMPLES]) + more


def home_of(source: str) -> Path:
    """Return the source as a path, whose last name names the dataset."""
    return Path(source).expanduser().resolve()
