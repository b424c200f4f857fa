"""Judge a build in one line with reasons. The bounds are our choice."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.documents.worth import NOT_CHECKED, NOT_EVALUATED
from tailforge.tasks.report.drift import Drift
from tailforge.tasks.report.histograms import SCORES
from tailforge.tasks.report.losses import FailureRow, LossRow
from tailforge.tasks.report.outcomes import ConceptRow
from tailforge.tasks.report.units import show_percent

Level = Literal["complete", "look", "bad"]
MANY_FAILED = 0.05  # a larger share of all images makes the build bad
MANY_UNAUGMENTED = 0.1  # a larger share of all augmentations is worth a look
FALL, CERTAIN, FEWEST = 0.05, 3.0, 30  # fall of the share that passes; standard errors; images per side
NAMED = 3
UNCHECKED = "No gate checked the images: quality.gates is none"


@dataclass(frozen=True)
class Finding:
    """One problem of a build; `anchor` is the section of the page with details."""

    level: Level
    text: str
    anchor: str


@dataclass(frozen=True)
class Verdict:
    """The worst level of all findings, and lines on it.

    `text`: the verdict on the version. A complete build is no merit of its images, so nothing but an evaluation or a
    finding stands there. `build`: the same on the build alone.
    """

    level: Level
    text: str
    build: str
    findings: tuple[Finding, ...]


def judge_build(
    concepts: Sequence[ConceptRow],
    losses: Sequence[LossRow],
    failures: Sequence[FailureRow],
    drift: Sequence[Drift],
    passed: Mapping[str, tuple[int, int]],
    unreadable: Sequence[tuple[str, str]],
    unread: Mapping[str, int],
    *,
    has_gates: bool,
) -> Verdict:
    """Return the verdict with its findings, the worst first.

    `passed`: images that passed and all images of the previous version, by concept.
    """
    found = [
        *_find_short(concepts),
        *_find_failed(losses, failures),
        *_find_unaugmented(concepts),
        *_find_unread(unread),
        *_find_unchecked(has_gates),
        *_find_falls(losses, passed),
        *_find_drift(drift),
        *(Finding("look", f"{version} could not be read: {why}", "history") for version, why in unreadable),
    ]

    levels: tuple[Level, ...] = ("bad", "look", "complete")
    findings = tuple(sorted(found, key=lambda finding: levels.index(finding.level)))
    level = findings[0].level if findings else "complete"

    accepted, wanted = sum(row.accepted for row in concepts), sum(row.wanted for row in concepts)
    look = "Complete, but worth a look" if has_gates else NOT_CHECKED.capitalize()
    words = {"complete": "Complete", "look": look, "bad": "Not as it should be"}
    counts = f"{accepted:,} of {wanted:,} requested images"
    build = f"{words[level]}: {counts}"
    return Verdict(level, f"{NOT_EVALUATED.capitalize()}: {counts}" if level == "complete" else build, build, findings)


def fell(now: tuple[int, int], before: tuple[int, int]) -> bool:
    """Return whether a share (passed, made) fell by FALL and by CERTAIN standard errors of the difference."""
    if min(now[1], before[1]) < FEWEST:
        return False
    after, earlier = now[0] / now[1], before[0] / before[1]
    pooled = (now[0] + before[0]) / (now[1] + before[1])
    error = math.sqrt(pooled * (1 - pooled) * (1 / now[1] + 1 / before[1]))
    return earlier - after >= FALL and earlier - after > CERTAIN * error


def _find_short(concepts: Sequence[ConceptRow]) -> list[Finding]:
    short = [f"{row.name} by {row.missing:,}" for row in concepts if row.missing]
    return [Finding("bad", f"{count_of(len(short), 'concept')} short: {_name(short)}", "concepts")] if short else []


def _find_failed(losses: Sequence[LossRow], failures: Sequence[FailureRow]) -> list[Finding]:
    failed, made = sum(row.count for row in failures), sum(row.made for row in losses)
    if not failed:
        return []
    level: Level = "bad" if failed > MANY_FAILED * made else "look"
    causes = _name([f"{row.cause} ({row.count:,})" for row in failures])
    return [Finding(level, f"{count_of(failed, 'image')} failed: {causes}", "failures")]


def _find_unaugmented(concepts: Sequence[ConceptRow]) -> list[Finding]:
    lost = sum(row.unaugmented for row in concepts)
    made = lost + sum(row.augmented for row in concepts)
    if lost <= MANY_UNAUGMENTED * made:
        return []
    named = _name([f"{row.name} {row.unaugmented:,}" for row in concepts if row.unaugmented])
    text = f"{lost:,} of {made:,} augmentations missed a gate or lost the concept, so they are not published: {named}"
    return [Finding("look", text, "losses")]


def _find_unread(unread: Mapping[str, int]) -> list[Finding]:
    if not unread:
        return []
    named = _name([f"{concept} {count:,}" for concept, count in unread.items()])
    text = f"{count_of(sum(unread.values()), 'prompt')} too long for the text encoder, not drawn: {named}"
    return [Finding("look", text, "concepts")]


def _find_unchecked(has_gates: bool) -> list[Finding]:
    return [] if has_gates else [Finding("look", UNCHECKED, "losses")]


def _find_falls(losses: Sequence[LossRow], passed: Mapping[str, tuple[int, int]]) -> list[Finding]:
    rates = []
    for row in losses:
        before = passed.get(row.concept, (0, 0))
        if fell((row.passed, row.made), before):
            shares = show_percent(before[0] / before[1]), show_percent(row.passed / row.made)
            rates.append(f"{row.concept} from {shares[0]} to {shares[1]}")
    return [Finding("look", f"Fewer images pass: {_name(rates)}", "losses")] if rates else []


def _find_drift(drift: Sequence[Drift]) -> list[Finding]:
    flagged = [each for each in drift if each.flagged]
    scores = [SCORES[score].title for score in dict.fromkeys(each.score for each in flagged)]
    return [Finding("look", f"{count_of(len(scores), 'score')} drifted: {_name(scores)}", "drift")] if scores else []


def _name(items: Sequence[str]) -> str:
    more = f" and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return ", ".join(items[:NAMED]) + more
