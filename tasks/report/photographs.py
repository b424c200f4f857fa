"""Draw the page about a user's photographs: classes, twins, splits, sizes and references, as one HTML file."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jinja2

from tailforge.schemas.documents.shown import count_of
from tailforge.tasks.report.histograms import show_number
from tailforge.tasks.report.template_files import read_template
from tailforge.tasks.report.units import show_percent

PAGE, STYLE = "photographs.html.j2", "report_style.css.j2"
WIDTH, HEIGHT = 960.0, 220.0  # of the drawing of the tail
LABELLED = 40  # classes from which bars carry no names
SIZES = 12  # sizes in the histogram; the others share a bar


@dataclass(frozen=True)
class Picture:
    """A small picture: the photograph's name, its WebP, and whether it is a reference."""

    name: str
    data: bytes
    chosen: bool = False

    @property
    def uri(self) -> str:
        """Return the picture as a data URI."""
        return f"data:image/webp;base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class ClassRow:
    """One class. `splits`: photographs per split. `own`: its name in the source, if another. `pictures`: some of it."""

    name: str
    own: str
    splits: Mapping[str, int]
    requested: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class PairRow:
    """Two photographs. `what`: same bytes, twin or mirrored twin; `faults`: leak, two classes."""

    what: str
    faults: tuple[str, ...]
    pictures: tuple[tuple[Picture, str, str], ...]  # picture, class and split


@dataclass(frozen=True)
class PhotographsPage:
    """Contents of the page. `rows`: classes by falling number of training photographs.

    `bounds`: (score, lowest, median, highest, gate) of the photographs. `sizes`: (name, photographs).
    """

    title: str
    origin: str
    photographs: int
    target: int
    rule: str
    split_rule: str
    findings: tuple[str, ...]
    rows: tuple[ClassRow, ...]
    hidden: int
    bars: tuple[tuple[str, int, int], ...]
    pairs: tuple[PairRow, ...]
    pair_count: int
    leak_count: int
    sizes: tuple[tuple[str, int], ...]
    facts: tuple[tuple[str, str], ...]
    bounds: tuple[tuple[str, str, str, str, str], ...]
    commands: tuple[str, ...]


@dataclass(frozen=True)
class TailBar:
    """One class in the drawing of the tail, in units of WIDTH x HEIGHT; y grows downwards."""

    x: float
    width: float
    y: float
    height: float
    fill_y: float
    fill_height: float
    title: str
    name: str


def draw_photographs(page: PhotographsPage) -> str:
    """Return the page as one HTML text, which names no other file."""
    templates = {PAGE: read_template(PAGE), STYLE: read_template(STYLE)}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=show_number, percent=show_percent)

    # Splits in their usual order, as columns of the table.
    splits = sorted({split for row in page.rows for split in row.splits}, key=("train", "validation", "test").index)
    return environment.get_template(PAGE).render(
        page=page,
        count=count_of,
        splits=splits,
        tail=draw_tail(page.bars),
        width=WIDTH,
        height=HEIGHT,
        named=len(page.bars) <= LABELLED,
        tallest=max(1, *(count + requested for _, count, requested in page.bars)),
        most=max(count for _, count in page.sizes),
    )


def draw_tail(bars: Sequence[tuple[str, int, int]]) -> list[TailBar]:
    """Return the bars of (name, training photographs, requested images), in their order."""
    tallest = max(1, max(count + requested for _, count, requested in bars))
    step = WIDTH / len(bars)

    # Requested images stand on the photographs.
    drawn = []
    for place, (name, count, requested) in enumerate(bars):
        own, fill = HEIGHT * count / tallest, HEIGHT * requested / tallest
        title = f"{name}: {count_of(count, 'photograph')}" + (f", {requested:,} requested" if requested else "")
        drawn.append(
            TailBar(
                x=round(step * (place + 0.1), 2),
                width=round(step * 0.8, 2),
                y=round(HEIGHT - own, 2),
                height=round(own, 2),
                fill_y=round(HEIGHT - own - fill, 2),
                fill_height=round(fill, 2),
                title=title,
                name=name,
            )
        )
    return drawn
