"""Find out which concepts a generator draws, before anybody pays for a search: a plain build of a few images each.

Tailforge chose this measure: an image is right if the verifier gives its concept at least half of the probability, or,
without a verifier, if its caption's concept is the nearest of the recipe's by the scorer.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailforge.catalog.reading.tables import read_columns
from tailforge.catalog.registry import version_folder
from tailforge.catalog.store import Store
from tailforge.flows.build.choose import choose_build, open_recipe
from tailforge.flows.build.queries import report_view, summary_view
from tailforge.flows.build.run import run_build
from tailforge.schemas.effort import count_passes
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.engine_settings import EngineSettings
from tailforge.schemas.settings.engines import BestOfNEngine, PlainEngine, SearchEngine, SeedSelectEngine
from tailforge.schemas.settings.gates import SCORES
from tailforge.schemas.settings.sampling import SamplingSettings
from tailforge.schemas.settings.workers import WorkerSettings
from tailforge.tasks.methods.intervals import wilson_interval
from tailforge.tasks.stages.samples import STAGE as SAMPLES

AUDIT = "-audit"  # ending of the dataset's name
RIGHT = {"verifier_agreement": 0.5, "concept_margin": 0.0}  # least value of a right image, by score
NEARLY = 1e-6  # above the least score: a gate that every image passes would be refused as one without effect
RIVALS: tuple[type[SearchEngine], ...] = (BestOfNEngine, SeedSelectEngine)


@dataclass(frozen=True)
class Audited:
    """One concept: its drawn and right images with Wilson's 95 % interval of the share, and seconds per drawn image.

    `per_right`: seconds of drawing per right image; None if none was right.
    """

    concept: str
    drawn: int
    right: int
    share: float
    low: float
    high: float
    seconds: float
    per_right: float | None


@dataclass(frozen=True)
class Audit:
    """The outcome. `score`: what tells a right image. `report`: the page with the images of version `version`.

    `engines`: expected seconds per image of searches with default settings. How often they succeed is not known.
    """

    version: str
    score: str
    concepts: tuple[Audited, ...]
    engines: Mapping[str, float]
    report: str


def audit_recipe(
    recipe: str,
    store: str,
    images: int,
    verifier: str | None = None,
    overrides: Sequence[str] = (),
    settings: WorkerSettings | None = None,
) -> Audit:
    """Draw `images` plain images per concept of a recipe, and count those that show their concept.

    They are published as a version of the dataset NAME-audit, from the first image on of an unchanged recipe.
    `verifier`: a classifier of the concepts, in place of the recipe's own. Errors: RecipeError for an engine without
    text prompts, and where nothing can tell a right image; those of `run_build`.
    """
    chosen = choose_build(recipe, store, overrides)
    given = open_recipe(chosen.reference, store, chosen.overrides).recipe
    if verifier is not None:
        chosen = chosen._replace(overrides=(*chosen.overrides, _override("quality.verifier", {"model": verifier})))
    score = _choose_score(given, verifier)
    made = run_build(chosen.reference, store, [*chosen.overrides, *_plain_overrides(given, score, images)], settings)
    return _read(store, f"{made['name']}@{made['version']}", score, given)


def _choose_score(recipe: Recipe, verifier: str | None) -> str:
    """Return the score that tells a right image. Errors: RecipeError."""
    if recipe.engine.sampling is None or recipe.engine.follows_sources:
        raise RecipeError(
            f"{recipe.name}: an audit draws images from prompts alone, and engine {recipe.engine.kind} does not; name "
            "a recipe with engine plain, best_of_n, zero_order or seed_select"
        )
    if verifier is not None or recipe.quality.verifier is not None:
        return "verifier_agreement"
    if recipe.quality.scorer is None or len(recipe.concepts) < 2:
        raise RecipeError(
            f"{recipe.name}: nothing tells whether an image shows its concept; give --verifier, a classifier of the "
            "concepts, or quality.scorer, a CLIP model, in a recipe of two or more concepts"
        )
    return "concept_margin"


def _plain_overrides(recipe: Recipe, score: str, images: int) -> list[str]:
    """Return the overrides that turn a recipe into its audit: plain sampling, and a gate that every image passes."""
    shared = recipe.engine.model_dump(mode="json", include=set(SamplingSettings.model_fields))
    changes: dict[str, Any] = {
        "name": f"{recipe.name}{AUDIT}",
        "engine": {**shared, "kind": "plain"},
        "quality.gates": {score: {"min": SCORES[score].least + NEARLY}},
        "quality.near_duplicates": None,
        "quality.oversample": 1,
        "quality.max_rounds": 1,
        "quality.on_shortfall": "report",
        "allocation": {"by": "uniform"},
        "augmentation": None,
        "sharding.noise": False,
        "partition_size": None,
    }
    changes |= {f"concepts.{place}.requested": images for place in range(len(recipe.concepts))}
    return [_override(name, value) for name, value in changes.items()]


def _override(name: str, value: Any) -> str:
    return f"{name}={json.dumps(value)}"


def _read(store: str, reference: str, score: str, recipe: Recipe) -> Audit:
    """Return what an audit's version shows."""
    name, _, version = reference.partition("@")
    opened = Store.open(store)
    table = read_columns(opened, f"{version_folder(opened, name, version)}/manifest.parquet", ("concept", score))
    summary = summary_view(store, reference)
    spent = {row["concept"]: row["seconds"].get(SAMPLES.name, 0.0) for row in summary["costs"]["concepts"]}

    # A failed image is drawn and not right; it has no row in the manifest.
    drawn = {row["name"]: row["accepted"] + row["rejected"] for row in summary["concepts"]}
    values = zip(table["concept"].to_pylist(), table[score].to_pylist(), strict=True)
    hits = [concept for concept, value in values if value is not None and value >= RIGHT[score]]
    found = tuple(
        _count(each.name, drawn[each.name], hits.count(each.name), spent[each.name]) for each in recipe.concepts
    )
    mean = sum(spent.values()) / max(sum(drawn.values()), 1)
    return Audit(reference, score, found, _expect_engines(recipe, mean), report_view(store, reference))


def _count(concept: str, drawn: int, right: int, seconds: float) -> Audited:
    low, high = wilson_interval(right, drawn)
    share, per_image = right / max(drawn, 1), seconds / max(drawn, 1)
    return Audited(concept, drawn, right, share, low, high, per_image, seconds / right if right else None)


def _expect_engines(recipe: Recipe, seconds: float) -> dict[str, float]:
    """Return the expected seconds per image by engine, from those of a plain image and the denoiser passes."""
    shared = recipe.engine.model_dump(mode="json", include=set(SamplingSettings.model_fields))
    engines: dict[str, EngineSettings] = {
        kind.model_fields["kind"].default: kind.model_validate(shared) for kind in RIVALS
    }
    if recipe.engine.chooses_noise:
        engines[recipe.engine.kind] = recipe.engine
    plain = PlainEngine.model_validate(shared)
    passes = {name: count_passes({"engine": each.model_dump()})[0] for name, each in engines.items()}
    one, _ = count_passes({"engine": plain.model_dump()})
    return {name: seconds * count / one for name, count in passes.items()}
