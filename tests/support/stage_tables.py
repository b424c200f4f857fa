"""SAMPLES and MASKS of small workshop partitions, committed to a store as their stages would."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tailforge.catalog.store import Store
from tailforge.schemas.jobs import BuildContext, PartitionJob, ResolvedModel, SampleSpec, Slot
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import parse_recipe
from tailforge.schemas.tables import MASKS, SAMPLES
from tailforge.tasks.artifacts.contract import Address, ArtifactKind, Made, run_once
from tailforge.tasks.methods.masks.codec import describe_instance, encode_mask
from tailforge.tasks.methods.packing.png import encode_png
from tailforge.tasks.methods.planning.samples import derive_seed, identify_sample
from tailforge.tasks.methods.workshop import BALANCED, Rendering, Scene, render, sample_scene

CONCEPTS = ("gear", "hook")


def make_build(
    store: Path, scorer: ResolvedModel | None = None, folder: Path | None = None, **changes: Any
) -> BuildContext:
    data = {
        "name": "parts",
        "description": "parts",
        "seed": 5,
        "generator": {"model": "somewhere"},
        "concepts": [{"name": name, "requested": 3} for name in CONCEPTS],
        **changes,
        "quality": {"gates": "none"} | changes.get("quality", {}),
    }
    return BuildContext(
        store=str(store),
        recipe=parse_recipe(data, "test"),
        generator=ResolvedModel(path="somewhere", digest="g"),
        scorer=scorer,
        folder=str(folder) if folder else None,
    )


def make_job(
    build: BuildContext, concept: str = "gear", attempt: int = 0, prompts: range = range(4), part: int = 0
) -> PartitionJob:
    specs = []
    for prompt_index in prompts:
        sample_id = identify_sample("parts", 5, concept, prompt_index, 0, attempt)
        slot = Slot(name="concept", value=concept, start=2, end=2 + len(concept))
        specs.append(
            SampleSpec(
                sample_id=sample_id, seed=derive_seed(sample_id), prompt_index=prompt_index, replica=0,
                prompt=f"a {concept} number {prompt_index}", slots=(slot,),
            )
        )  # fmt: skip
    return PartitionJob(
        build=build, concept=concept, attempt=attempt, source="template:0", part=part, samples=tuple(specs)
    )


def draw(spec: SampleSpec, concept: str) -> Rendering:
    scene = sample_scene(0, spec.seed, BALANCED)
    return render(Scene(concept, scene.material, scene.surface, spec.seed))


def commit_samples(job: PartitionJob, images: dict[int, np.ndarray | None] | None = None) -> tuple[Receipt, Receipt]:
    """Receipts of SAMPLES and MASKS. `images` replaces the picture of some rows; None makes it a failed sample."""
    category = job.build.recipe.class_id(job.concept) + 1
    samples, masks = [], []
    for row, spec in enumerate(job.samples):
        drawn = draw(spec, job.concept)
        image = (images or {}).get(row, drawn.image)
        mask = np.where(drawn.mask > 0, category, 0).astype(np.uint8)
        found = [describe_instance(mask == category, category, job.concept, 0.75)]
        outcome = {"status": "failed", "error": "not finite"} if image is None else {"status": "ok", "error": None}
        samples.append(
            {
                **spec.model_dump(), "concept": job.concept, "attempt": job.attempt, **outcome,
                "image": None if image is None else encode_png(image),
                "width": None if image is None else image.shape[1], "height": None if image is None else image.shape[0],
                "attention": None, "engine": "plain", "provenance": "{}",
            }
        )  # fmt: skip
        masks.append(
            {
                "sample_id": spec.sample_id, **outcome, "mask": None if image is None else encode_mask(mask),
                "instances": [] if image is None else found,
                "mask_area": 0.0 if image is None else float((mask > 0).mean()), "mask_confidence": 0.75,
                "mask_contrast": 0.5, "mask_presence": 2.0, "mask_components": 1, "mask_separability": 0.9,
                "mask_largest_share": 1.0, "mask_source": "cross_attention",
            }
        )  # fmt: skip
    return _commit(job, "samples", SAMPLES, samples), _commit(job, "masks", MASKS, masks)


def _commit(job: PartitionJob, name: str, schema: pa.Schema, rows: list[dict[str, Any]]) -> Receipt:
    settings = {"label": job.label, "rows": [[row["sample_id"], row["status"]] for row in rows]}
    address = Address(
        ArtifactKind(name=name, version="test", schema=schema), job.part, job.label, settings=settings, inputs={}
    )
    fields = set(schema.names)
    table = pa.Table.from_pylist([{k: v for k, v in row.items() if k in fields} for row in rows], schema)
    return run_once(Store.open(job.build.store, create=True), address, lambda: Made(table))
