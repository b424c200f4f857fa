"""Draw the picture of one sample with its mask, its scores and its origin."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailforge.tasks.report.data import ReportData
from tailforge.tasks.report.histograms import SCORES, describe_gate, show_number
from tailforge.tasks.report.inversion import describe_inversion
from tailforge.tasks.report.noises import describe_mix
from tailforge.tasks.report.outcomes import SURPLUS
from tailforge.tasks.report.overlays import draw_overlay, list_crowds, shrink_image
from tailforge.tasks.report.reasons import describe_reason
from tailforge.tasks.report.references import name_nearest
from tailforge.tasks.report.repair import describe_repair
from tailforge.tasks.report.search import describe_search


@dataclass(frozen=True)
class Tile:
    """One picture of the page: `image` is a file name, `mask` a data URI, `scores` are (title, value, gate).

    `reason`: why the image is not in the dataset, if so; `refused`: whether a fault is the reason. `explanation`:
    file name or "".
    """

    sample_id: str
    concept: str
    concept_index: int
    caption: str
    reason: str
    refused: bool
    image: str
    mask: str
    small: bool
    scores: tuple[tuple[str, str, str], ...]
    facts: tuple[tuple[str, str], ...]
    explanation: str


def draw_tile(data: ReportData, row: Mapping[str, Any], files: dict[str, bytes]) -> Tile:
    """Return a sample's tile and put its picture into `files`."""
    image, mask = data.examples[row["sample_id"]]
    ending, picture = shrink_image(image)
    name = f"images/{row['sample_id']}.{ending}"
    files[name] = picture
    explanation = f"explained/{row['sample_id']}.html" if row["sample_id"] in data.explanations else ""
    if explanation:
        files[explanation] = data.explanations[row["sample_id"]]

    gates = data.recipe.quality.gates
    present = [(score, row[score]) for score in SCORES if row[score] is not None]
    facts = {"Prompt": row["prompt_index"], "Round": row["attempt"], "Seed": row["seed"], "Engine": row["engine"]}

    facts |= {
        "Split": row.get("split"),
        "Shard": row.get("shard"),
        "Mask": row["mask_source"],
        "Found": _describe_found(row["instances"]),
        "Error": row.get("error"),
        **describe_search(row["provenance"]),
        **describe_mix(row["provenance"]),
        "Nearest reference": name_nearest(row["provenance"], data.references.get(row["concept"], ())),
        **describe_inversion(row["provenance"]),
        **describe_repair(row["provenance"]),
    }

    stuff = [value for value, category in enumerate(data.recipe.categories, 1) if not category.thing]
    crowds = list_crowds(row["instances"])
    overlay = base64.b64encode(draw_overlay(mask, stuff, crowds)).decode() if mask else ""
    return Tile(
        sample_id=row["sample_id"],
        concept=row["concept"],
        concept_index=row["class_id"],
        caption=row["caption"] or "",
        reason=describe_reason(name_reason(row), data.recipe)[0] if "reason" in row else "",
        refused="reason" in row and row["reason"] != SURPLUS,
        image=name,
        mask=f"data:image/png;base64,{overlay}" if overlay else "",
        small=max(row["width"] or 0, row["height"] or 0) <= 128,
        scores=tuple((SCORES[s].title, show_number(value), describe_gate(gates.get(s))) for s, value in present),
        facts=tuple((label, str(value)) for label, value in facts.items() if value not in (None, "")),
        explanation=explanation,
    )


def _describe_found(instances: Sequence[Mapping[str, Any]] | None) -> str:
    """Return the instances with their confidence, if there are several or one is a crowd."""
    listed = instances or ()
    found = [
        f"{each['category']} {show_number(each['score'])}{' (crowd)' if each.get('crowd') else ''}" for each in listed
    ]
    return ", ".join(found) if len(found) > 1 or any(each.get("crowd") for each in listed) else ""


def name_reason(row: Mapping[str, Any]) -> str:
    """Return why a sample is left out, or its status."""
    return row["reason"] or row["status"] or "unknown"
