"""Say in the card and in Croissant what a version is worth to a model, or that it was not evaluated or not checked."""

from typing import Any

from tailforge.catalog.metadata.evaluations import evaluation_folder
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.documents.worth import Gain, Worth

UNCHECKED = "Not checked: no gate looked at the images, `quality.gates` is none."
INTERVALS = "Intervals are 95 % over paired seeds: they cover other seeds, not other test images."


def is_checked(dataset: Dataset) -> bool:
    """Return whether a gate looked at the images; records of other tools that name no gates count as checked."""
    return bool(dataset.recipe.get("quality", {}).get("gates", True))


def describe_worth(dataset: Dataset, worth: Worth | None) -> str:
    """Return the card's section on the worth of a version, in Markdown."""
    unchecked = [] if is_checked(dataset) else ["", UNCHECKED]
    lines = [_say_not_evaluated(dataset)] if worth is None else _tell(worth)
    return "\n".join(["## Worth", "", *lines, *unchecked])


def observe_worth(dataset: Dataset, worth: Worth | None) -> dict[str, Any]:
    """Return the worth as a schema.org report about the version, with the gains as observations in points."""
    told = _say_not_evaluated(dataset) if worth is None else f"{_verdict(worth)}. {INTERVALS}"
    report = {
        "@type": "sc:Report",
        "name": f"Worth of {dataset.name} {dataset.version}",
        "abstract": told if is_checked(dataset) else f"{told} {UNCHECKED}",
    }
    if worth is None or worth.gain is None:
        return report

    gains = {"rare classes": worth.gain.gain_tail, "all classes": worth.gain.gain_macro}
    return report | {
        "mentions": [_observe(worth.score, name, gain) for name, gain in gains.items() if gain.value is not None]
    }


def _observe(score: str, classes: str, gain: Gain) -> dict[str, Any]:
    """Return a gain with its interval, in points of per cent."""
    return {
        "@type": "sc:Observation",
        "name": f"gain in {score} of {classes}",
        "unitText": "percentage points",
        **{
            key: round(100 * number, 2)
            for key, number in (("value", gain.value), ("minValue", gain.low), ("maxValue", gain.high))
            if number is not None
        },
    }


def _say_not_evaluated(dataset: Dataset) -> str:
    """Return what stands in place of a verdict."""
    place = evaluation_folder(dataset.name, dataset.version)
    return (
        "Not evaluated when this text was written: nothing shows what these images are worth to a model. "
        f"`tailforge evaluate {dataset.name}@{dataset.version} --real IMAGES` measures it, and keeps the result in "
        f"`{place}/` of the store."
    )


def _verdict(worth: Worth) -> str:
    """Return the verdict as a sentence without its full stop."""
    return worth.verdict[:1].upper() + worth.verdict[1:]


def _tell(worth: Worth) -> list[str]:
    """Return the lines of an evaluation: the verdict, and the score per class without and with the version."""
    lines = [f"{_verdict(worth)}.", "", INTERVALS]
    before, after = worth.before, worth.after
    if before is None or after is None or not before.scores:
        return lines

    # Groups and counts may be missing, so they are looked up by name.
    counts = {each.name: each for each in worth.classes}
    with_version = {each.name: each for each in after.scores}
    rows = [
        f"| {each.name} | {_count(counts[each.name].train) if each.name in counts else '–'} | {each.percent} | "
        f"{with_version[each.name].percent} |"
        for each in before.scores
        if each.name in with_version
    ]
    head = f"| class | real training images | {worth.score}, {before.arm} | {worth.score}, {after.arm} |"
    return [*lines, "", head, "|---|---|---|---|", *rows]


def _count(number: int | None) -> str:
    return "–" if number is None else str(number)
