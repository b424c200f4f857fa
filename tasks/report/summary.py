"""Prepare the first sections of the page, on the state of the last build, for the template."""

from collections.abc import Sequence
from dataclasses import dataclass

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import PictureError
from tailforge.tasks.report.data import ReportData
from tailforge.tasks.report.facts import Facts
from tailforge.tasks.report.history import ScoreTrend, draw_history, draw_scores
from tailforge.tasks.report.losses import LossRow
from tailforge.tasks.report.overlays import shrink_image
from tailforge.tasks.report.reasons import describe_reason
from tailforge.tasks.report.trends import HEIGHT, WIDTH, Trend

SHOWN_CONCEPTS = 24  # rows of the tables by concept, problems first
SHOWN_REASONS = 10  # columns of the losses; the rest is summed


@dataclass(frozen=True)
class Picture:
    """An added, removed or changed sample: file names, "" for a missing picture."""

    sample_id: str
    concept: str
    now: str
    before: str


@dataclass(frozen=True)
class LossCell:
    """Images of a concept lost for one reason, and their share of all its images."""

    count: int
    share: float


@dataclass(frozen=True)
class Morning:
    """`reasons`: (title, explanation) per column of `losses`, a list of (row, cells). `left_out`: count of concepts."""

    facts: Facts
    pictures: tuple[tuple[str, tuple[Picture, ...]], ...]
    reasons: tuple[tuple[str, str], ...]
    losses: tuple[tuple[LossRow, tuple[LossCell, ...]], ...]
    left_out: int
    history: tuple[Trend, ...]
    scores: tuple[ScoreTrend, ...]
    width: float = WIDTH
    height: float = HEIGHT
    shown: int = SHOWN_CONCEPTS


def draw_morning(data: ReportData, facts: Facts, files: dict[str, bytes]) -> Morning:
    """Return the facts for the template and put the pictures of changed samples into `files`."""
    order = list(facts.losses[0].lost) if facts.losses else []
    named, rest = order[:SHOWN_REASONS], order[SHOWN_REASONS:]

    lossy = sorted(facts.losses, key=lambda row: (row.made > 0, row.rate or 0.0))
    by_rate = lossy[:SHOWN_CONCEPTS] if len(lossy) > SHOWN_CONCEPTS else facts.losses
    titles = [describe_reason(reason, data.recipe) for reason in named]
    titles += [("Other", count_of(len(rest), "further reason"))] if rest else []

    return Morning(
        facts=facts,
        pictures=_draw_pictures(data, facts, files),
        reasons=tuple(titles),
        losses=tuple((row, _cells(row, named, rest)) for row in by_rate),
        left_out=len(facts.losses) - len(by_rate),
        history=tuple(draw_history(facts.history)),
        scores=tuple(draw_scores(facts.history, facts.drift)),
    )


def _cells(row: LossRow, named: Sequence[str], rest: Sequence[str]) -> tuple[LossCell, ...]:
    counts = [row.lost[reason] for reason in named]
    counts += [sum(row.lost[reason] for reason in rest)] if rest else []
    return tuple(LossCell(count, count / row.made if row.made else 0.0) for count in counts)


def _draw_pictures(
    data: ReportData, facts: Facts, files: dict[str, bytes]
) -> tuple[tuple[str, tuple[Picture, ...]], ...]:
    """Return the pictures by kind of change, without empty kinds."""
    previous = data.earlier.previous
    if facts.changes is None or previous is None:
        return ()
    concept = dict(zip(data.manifest["sample_id"].to_pylist(), data.manifest["concept"].to_pylist(), strict=True))
    concept |= previous.removed

    found = []
    for kind, ids in facts.changes.examples.items():
        drawn = []
        for sample_id in ids:
            now = _put("images", sample_id, data.pictures.get(sample_id), files)
            before = _put("before", sample_id, previous.pictures.get(sample_id), files)
            if now or before:
                drawn.append(Picture(sample_id, concept[sample_id], now, before))
        found += [(kind, tuple(drawn))] if drawn else []
    return tuple(found)


def _put(folder: str, sample_id: str, image: bytes | None, files: dict[str, bytes]) -> str:
    if image is None:
        return ""
    try:
        ending, picture = shrink_image(image)
    except PictureError:  # an image of an earlier version may be damaged
        return ""
    name = f"{folder}/{sample_id}.{ending}"
    files[name] = picture
    return name
