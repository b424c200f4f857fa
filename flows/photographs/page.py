"""Gather the contents of the page about inspected photographs."""

from collections.abc import Iterable, Mapping, Sequence

from tailforge.catalog.inspection.counts import ClassCount
from tailforge.catalog.pictures import PHOTOGRAPHS, open_picture, show_rgb
from tailforge.flows.photographs.inspect import Inspection, describe_findings
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ImagesError, PictureError
from tailforge.schemas.settings.licences import describe_licence
from tailforge.tasks.images.twins import Twin
from tailforge.tasks.report.histograms import describe_gate, show_number
from tailforge.tasks.report.photographs import SIZES, ClassRow, PairRow, PhotographsPage, Picture
from tailforge.tasks.report.references import shrink_photograph

PER_CLASS, CLASSES, PAIRS = 8, 60, 24  # shown on the page, which embeds all pictures
SIDE = 112  # pixels of a shown picture
RULES = {"median": "the count of the class in the middle", "largest": "the count of the largest class"}
CHANNELS = {1: "grey", 3: "colour"}
OWN_SPLITS = (
    "The photographs had no splits. They were divided by the seed: 80 % train, 10 % validation, 10 % test of each "
    "class, and one photograph at least of a class of five or more. Photographs of one group, copies and twins share "
    "a split."
)
GIVEN_SPLITS = "The photographs' own splits were kept."


def gather_page(inspection: Inspection, title: str, commands: Sequence[str]) -> PhotographsPage:
    """Return the contents of the page, with small pictures of a choice of photographs."""
    tail, question = inspection.tail, inspection.question
    shown = _choose_classes(tail.classes)
    pairs = _choose_pairs(inspection)
    places = {each.name: _choose_places(inspection, each.name) for each in shown}
    own = {name: each for each, name in inspection.concepts.items()}
    pictures = _draw(inspection, {*_flat(places.values()), *_flat((each.one, each.other) for each in pairs)})

    return PhotographsPage(
        title=title,
        origin=inspection.origin,
        photographs=len(inspection.images),
        target=tail.target,
        rule=RULES.get(question.fill, "the number that you named"),
        split_rule=GIVEN_SPLITS if inspection.given else OWN_SPLITS,
        findings=tuple(describe_findings(inspection)),
        rows=tuple(
            ClassRow(each.name, own[each.name], each.splits, each.requested, _pick(pictures, places[each.name]))
            for each in shown
        ),
        hidden=len(tail.classes) - len(shown),
        bars=tuple((each.name, each.train, each.requested) for each in tail.classes),
        pairs=tuple(_describe_pair(inspection, each, pictures) for each in pairs),
        pair_count=len(inspection.pairs),
        leak_count=len(inspection.leaks),
        sizes=tuple(_list_sizes(inspection)),
        facts=tuple(_list_facts(inspection)),
        bounds=tuple(_list_bounds(inspection)),
        commands=tuple(commands),
    )


def _flat(many: Iterable[Iterable[int]]) -> list[int]:
    return [each for some in many for each in some]


def _choose_classes(classes: Sequence[ClassCount]) -> list[ClassCount]:
    """Return all classes, or of many the most frequent third and the rarest."""
    first = CLASSES // 3
    return list(classes) if len(classes) <= CLASSES else [*classes[:first], *classes[first - CLASSES :]]


def _choose_places(inspection: Inspection, name: str) -> list[int]:
    """Return the places shown of a class: its references, then measured photographs from all over the source."""
    chosen = list(inspection.references.get(name, ()))[:PER_CLASS]
    rest = [place for place in inspection.measures.places.tolist() if inspection.labels[place] == name]
    rest = [place for place in rest if place not in chosen]
    return chosen + rest[:: max(1, len(rest) // PER_CLASS)][: PER_CLASS - len(chosen)]


def _choose_pairs(inspection: Inspection) -> list[Twin]:
    """Return the pairs shown, those with a fault first."""
    faulty = [*inspection.leaks, *inspection.conflicts]
    return list(dict.fromkeys([*faulty, *inspection.pairs]))[:PAIRS]


def _draw(inspection: Inspection, places: Iterable[int]) -> dict[int, Picture]:
    """Return small pictures by place; one that cannot be read again is left out."""
    chosen = set(_flat(inspection.references.values()))
    pictures = {}
    for place in sorted(places):
        try:
            image = open_picture(inspection.images.read(place), PHOTOGRAPHS, show_rgb, least_side=SIDE)
        except (ImagesError, PictureError):
            continue
        pictures[place] = Picture(inspection.images.ids[place], shrink_photograph(image, SIDE), place in chosen)
    return pictures


def _pick(pictures: Mapping[int, Picture], places: Sequence[int]) -> tuple[Picture, ...]:
    return tuple(pictures[place] for place in places if place in pictures)


def _describe_pair(inspection: Inspection, pair: Twin, pictures: Mapping[int, Picture]) -> PairRow:
    copies = {frozenset((places[0], other)) for places in inspection.copies for other in places[1:]}
    same = frozenset((pair.one, pair.other)) in copies
    what = "same bytes" if same else "mirrored twin" if pair.mirrored else "twin"
    faults = [
        name for name, pairs in (("leak", inspection.leaks), ("two classes", inspection.conflicts)) if pair in pairs
    ]
    both = [place for place in (pair.one, pair.other) if place in pictures]
    told = [(pictures[place], inspection.labels[place], inspection.splits[place]) for place in both]
    return PairRow(what, tuple(faults), tuple(told))


def _list_sizes(inspection: Inspection) -> list[tuple[str, int]]:
    sizes = inspection.sizes.sizes
    rows = [(f"{width} x {height}", count) for (width, height), count in sizes[:SIZES]]
    rest = sum(count for _, count in sizes[SIZES:])
    return [*rows, (f"{count_of(len(sizes) - SIZES, 'other size')}", rest)] if rest else rows


def _list_facts(inspection: Inspection) -> list[tuple[str, str]]:
    sizes, measured = inspection.sizes, len(inspection.measures.places)
    (width, height), count = sizes.aspects[0]
    channels = ", ".join(f"{CHANNELS[each]} {number:,}" for each, number in sizes.channels)
    size = inspection.size

    whole = measured == len(inspection.images)
    return [
        (
            "decoded",
            f"all {measured:,}" if whole else f"{measured:,} of {len(inspection.images):,}, rare classes first",
        ),
        ("most common aspect", f"{width}:{height} ({count:,} photographs)"),
        ("channels", channels),
        ("the generator draws", f"{size[1]} x {size[0]}"),
        ("photographs are brought to that by", f"fit: {inspection.fit}"),
        ("their licence", describe_licence(inspection.question.license).name),
    ]


def _list_bounds(inspection: Inspection) -> list[tuple[str, str, str, str, str]]:
    rows = []
    for name, values in inspection.measures.scores.items():
        ordered = sorted(values.tolist())
        told = [show_number(ordered[round(share * (len(ordered) - 1))]) for share in (0.01, 0.5, 0.99)]
        rows.append((name, told[0], told[1], told[2], describe_gate(inspection.gates.get(name))))
    return rows
