"""Draw the report page of a published version as one HTML file with pictures. All choices are ours.

All counts come from the published tables, so the page always agrees with them.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.licences import describe_licence
from tailforge.tasks.report.adaptation import draw_adaptation
from tailforge.tasks.report.allocation import draw_recalls
from tailforge.tasks.report.data import ReportData
from tailforge.tasks.report.facts import Facts, collect_facts, write_summary
from tailforge.tasks.report.gallery import group_tiles, note_weakest
from tailforge.tasks.report.histograms import (
    HEIGHT,
    SCORES,
    WIDTH,
    Histogram,
    Values,
    draw_histogram,
    show_number,
)
from tailforge.tasks.report.inversion import InversionRow, count_inversion, sum_inversion
from tailforge.tasks.report.noises import NoiseRow, count_noises
from tailforge.tasks.report.outcomes import (
    count_splits,
    select_originals,
    select_refused,
    select_surplus,
    sum_timings,
)
from tailforge.tasks.report.overlays import (
    AROUND,
    CROWD,
    EDGE,
    OUTSIDE,
    UNKNOWN,
    has_ignored,
    list_crowds,
    show_colour,
)
from tailforge.tasks.report.reasons import describe_reason
from tailforge.tasks.report.references import draw_references
from tailforge.tasks.report.search import SearchRow, count_search
from tailforge.tasks.report.summary import draw_morning
from tailforge.tasks.report.tiles import Tile, draw_tile, name_reason
from tailforge.tasks.report.units import show_bytes, show_percent, show_seconds
from tailforge.tasks.report.weakest import choose_weakest
from tailforge.tasks.report.worth import draw_parts, view_worth

PAGE = "report.html.j2"
PER_CONCEPT, PER_REASON = 12, 6
GALLERY_IMAGES = 300  # many concepts show fewer images each, at least 2


@dataclass(frozen=True)
class ReasonRow:
    """One reason to leave an image out, with its most frequent concepts and, for failures, errors.

    `share` is the share of the images in this list.
    """

    title: str
    explanation: str
    count: int
    share: float
    concepts: tuple[tuple[str, int], ...]
    errors: tuple[tuple[str, int], ...]
    tiles: tuple[Tile, ...]


def examples_per_concept(concepts: int) -> int:
    """Return the number of accepted images per concept in the gallery."""
    return max(2, min(PER_CONCEPT, GALLERY_IMAGES // concepts))


def choose_examples(
    manifest: pa.Table, rejects: pa.Table, per_concept: int, per_reason: int
) -> tuple[list[str], list[str]]:
    """Return sample ids to show: accepted ones by concept, rejected ones by reason.

    The order is by sample id, which is a hash: as good as random, always the same, and nobody picks pretty images.
    Augmented copies are left out (their parents are shown), and so are failed samples, which have no image. The
    examples of a reason come from as many concepts as possible.
    """
    accepted: dict[str, list[str]] = {}
    for row in sorted(_rows(manifest, "class_id", "sample_id", "parent_id", "concept"), key=_by_class_and_id):
        if row["parent_id"] is None:
            accepted.setdefault(row["concept"], []).append(row["sample_id"])

    rejected: dict[str, dict[str, list[str]]] = {}
    for row in sorted(_rows(rejects, "class_id", "sample_id", "concept", "reason", "status"), key=_by_class_and_id):
        if row["status"] == "ok":
            rejected.setdefault(name_reason(row), {}).setdefault(row["concept"], []).append(row["sample_id"])

    return (
        [sample_id for ids in accepted.values() for sample_id in ids[:per_concept]],
        [sample_id for _, by_concept in sorted(rejected.items()) for sample_id in _in_turn(by_concept)[:per_reason]],
    )


def draw_report(data: ReportData, templates: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files of the report: `index.html` is the page and `summary.json` its facts.

    `templates`: texts of the Jinja2 templates by file name; PAGE includes the others, which escape all values.
    Equal data give equal bytes.
    """
    facts = collect_facts(data)
    files: dict[str, bytes] = {}
    pictures = draw_pictures(data, facts, files)
    recipe_yaml = yaml.safe_dump(
        data.recipe.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True, width=100
    )

    made = [select_originals(data.manifest), select_originals(data.rejects)]
    names = [concept.name for concept in data.recipe.concepts]

    def place(row: SearchRow | NoiseRow | InversionRow) -> int:
        """Return the place of a row's concept in the recipe."""
        return names.index(row.concept)

    page = (
        _open_environment(templates)
        .get_template(PAGE)
        .render(
            recipe=data.recipe,
            licence=describe_licence(data.recipe.license),
            recipe_yaml=recipe_yaml,
            nonce=hashlib.sha256(recipe_yaml.encode()).hexdigest()[:32],
            version=data.version,
            concepts=facts.concepts,
            morning=draw_morning(data, facts, files),
            recalls=draw_recalls(data.allocation.table) if data.allocation else (),
            splits=count_splits(data.recipe, data.manifest),
            failed=sum(status == "failed" for status in data.rejects["status"].to_pylist()),
            **pictures,
            parts=draw_parts(view_worth(data.recipe.name, data.version, None), templates),
            legend=explain_overlays(data),
            histograms=draw_histograms(data),
            chart={"width": WIDTH, "height": HEIGHT},
            searches=sorted(count_search(made), key=place),
            noises=sorted(count_noises(data.seeds, made), key=place),
            inversions=sorted(count_inversion(made), key=place),
            agreement=sum_inversion([select_originals(data.manifest)]).get("agreed"),
            stages=sum_timings(data.receipts),
            lineage=_lineage(data),
            training=data.training,
            adaptation=draw_adaptation(data.adaptation, files),
            explains=data.recipe.engine.sampling is not None,
        )
    )
    return {"index.html": page.encode(), "summary.json": write_summary(data, facts), **dict(sorted(files.items()))}


def draw_pictures(data: ReportData, facts: Facts, files: dict[str, bytes]) -> dict[str, Any]:
    """Return the pictures of the page by the names of its template; their files are added to `files`."""
    shown = [
        table.filter(pc.is_in(table["sample_id"], pa.array(list(data.examples), pa.string())))
        for table in (data.manifest, data.rejects)
    ]
    accepted, rejected = ([draw_tile(data, row, files) for row in _sorted_rows(table)] for table in shown)

    # The gallery has random accepted images; the weakest have a section of their own.
    random, _ = choose_examples(data.manifest, data.rejects, examples_per_concept(len(data.recipe.concepts)), 0)
    gallery = [tile for tile in accepted if tile.sample_id in set(random)]
    weakest = choose_weakest(data.recipe, data.manifest, data.rejects)
    references = draw_references(data.recipe, data.references, files)
    return {
        "tiles": gallery,
        "groups": group_tiles(facts.concepts, gallery, references),
        "weakest": note_weakest(data.recipe, weakest, {tile.sample_id: tile for tile in accepted}),
        "reasons": count_reasons(data.recipe, select_refused(data.rejects), rejected),
        "unneeded": count_reasons(data.recipe, select_surplus(data.rejects), rejected),
    }


def _open_environment(templates: Mapping[str, str]) -> jinja2.Environment:
    """Return the environment of the page's templates, which escapes all values."""
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=show_number, seconds=show_seconds, percent=show_percent, size=show_bytes)
    return environment


def explain_overlays(data: ReportData) -> list[tuple[str, str, str]]:
    """Return colour, pattern and meaning of all that masks of this version can show."""
    masks = [mask for _, mask in data.examples.values() if mask]
    stuff = data.recipe.annotation.stuff
    meanings = [(EDGE, "rim", "outlined: a thing")]
    tables = (table.select(["sample_id", "instances"]) for table in (data.manifest, data.rejects))
    shown = (row for table in tables for row in table.to_pylist() if row["sample_id"] in data.examples)
    if any(list_crowds(row["instances"]) for row in shown):
        meanings.append((CROWD, "hatched", "hatched: several things that touch (a crowd)"))
    if stuff:
        meanings.append((AROUND, "", f"tinted: stuff around things ({', '.join(stuff)})"))
    if any(map(has_ignored, masks)):
        meanings.append((UNKNOWN, "", "grey: ignored (255), uncertain"))
    meanings.append((OUTSIDE, "", "dimmed: background"))
    return [(show_colour(paint), pattern, meaning) for paint, pattern, meaning in meanings] if masks else []


def count_reasons(recipe: Recipe, rejects: pa.Table, tiles: Sequence[Tile]) -> list[ReasonRow]:
    """Return the reasons of these rows of REJECTS, most frequent first."""
    rows = _rows(rejects, "concept", "reason", "status", "error")
    counts = Counter(map(name_reason, rows))
    found = []
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        own = [row for row in rows if name_reason(row) == name]
        concepts = Counter(row["concept"] for row in own).most_common(3)
        errors = Counter(row["error"] for row in own if row["error"]).most_common(3)
        title, explanation = describe_reason(name, recipe)
        shown = tuple(tile for tile in tiles if tile.reason == title)
        share = count / len(rows)
        found.append(ReasonRow(title, explanation, count, share, tuple(concepts), tuple(errors), shown))
    return found


def draw_histograms(data: ReportData) -> list[Histogram]:
    """Return one histogram per score with values, gated scores first, without copies.

    Surplus images count as passed.
    """
    gates = data.recipe.quality.gates
    columns = ["concept", "attempt", *SCORES]
    accepted = select_originals(data.manifest).select(columns)
    lost = select_originals(data.rejects)
    passed = pa.concat_tables([accepted, select_surplus(lost).select(columns)])
    rejected = select_refused(lost).select(columns)

    made = pa.concat_tables([passed, rejected])
    first_round = made.filter(pc.equal(made["attempt"], 0))
    drawn = [
        draw_histogram(
            score, _finite(passed, score), _finite(rejected, score), gates.get(score), _by_concept(first_round, score)
        )
        for score in sorted(SCORES, key=lambda name: name not in gates)
    ]
    return [histogram for histogram in drawn if histogram is not None]


def _lineage(data: ReportData) -> dict[str, str]:
    """Return digests and versions, also those of receipts; all versions of a library are listed."""
    versions: dict[str, set[str]] = {}
    for receipt in data.receipts:
        for name, version in receipt.versions.items():
            versions.setdefault(name, set()).add(version)
    return {**data.lineage, **{name: ", ".join(sorted(found)) for name, found in sorted(versions.items())}}


def _by_concept(table: pa.Table, score: str) -> dict[str, Values]:
    """Return the finite values of a score by concept."""
    names = dict.fromkeys(table["concept"].to_pylist())
    return {name: _finite(table.filter(pc.equal(table["concept"], name)), score) for name in names}


def _finite(table: pa.Table, score: str) -> Values:
    values = np.asarray(table[score].drop_null(), dtype=np.float64)
    return values[np.isfinite(values)]


def _rows(table: pa.Table, *columns: str) -> list[dict[str, Any]]:
    return table.select(list(columns)).to_pylist()  # type: ignore[no-any-return]


def _sorted_rows(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=_by_class_and_id)


def _by_class_and_id(row: Mapping[str, Any]) -> tuple[int, str]:
    return row["class_id"], row["sample_id"]


def _in_turn(by_concept: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the first id of every concept, then the second of every concept, and so on."""
    longest = max(map(len, by_concept.values()))
    return [ids[turn] for turn in range(longest) for ids in by_concept.values() if turn < len(ids)]
