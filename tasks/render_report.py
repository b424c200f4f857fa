"""The report page of a version: collects its example images and has the page drawn."""

from collections.abc import Callable, Mapping, Sequence
from importlib import resources

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.store import Store
from schemas.jobs import BuildContext
from schemas.receipts import Receipt
from tasks.artifacts import read_table
from tasks.methods.draw_report import PER_REASON, ReportData, choose_examples, draw_report, examples_per_concept

ReadImages = Callable[[Sequence[str]], Mapping[str, tuple[bytes, bytes | None]]]
FOLDER = "report"  # inside the version's folder


def render_report(
    build: BuildContext,
    version: str,
    manifest: pa.Table,
    rejects: pa.Table,
    receipts: Sequence[Receipt],
    read_images: ReadImages,
) -> dict[str, bytes]:
    """File name, relative to the version's folder, to bytes; the page is report/index.html.

    `read_images` gives image and mask of the samples it is asked for, as far as they exist: a few hundred at most.
    """
    per_concept = examples_per_concept(len(build.recipe.concepts))
    accepted, rejected = choose_examples(manifest, rejects, per_concept, PER_REASON)
    data = ReportData(
        recipe=build.recipe,
        version=version,
        manifest=manifest,
        rejects=rejects,
        examples=read_images([*accepted, *rejected]),
        receipts=receipts,
        lineage=_name_models(build),
    )
    template = resources.files("tasks").joinpath("report.html.j2").read_text(encoding="utf-8")
    return {f"{FOLDER}/{name}": content for name, content in draw_report(data, template).items()}


def read_example_images(
    store: Store, receipts: Sequence[Receipt], sample_ids: Sequence[str]
) -> dict[str, tuple[bytes, bytes | None]]:
    """Images and masks of samples from the partitions of `receipts`: those of samples, then masks, then augmented.

    A later partition's image or mask replaces an earlier one's, as augmentation in place does. One partition is in
    memory at a time, and only those with a wanted sample are read. Errors: StoreError.
    """
    wanted = pa.array(sorted(set(sample_ids)), pa.string())
    found: dict[str, dict[str, bytes]] = {"image": {}, "mask": {}}
    for receipt in receipts:
        ids = read_table(store, receipt, ["sample_id"])["sample_id"]
        rows = pc.indices_nonzero(pc.is_in(ids, wanted))
        if not len(rows):
            continue
        with store.open_read(receipt.uri) as file:
            kinds = [kind for kind in found if kind in pq.read_schema(file).names]
        table = read_table(store, receipt, ["sample_id", *kinds]).take(rows)
        for kind in kinds:
            pairs = zip(table["sample_id"].to_pylist(), table[kind].to_pylist(), strict=True)
            found[kind].update({sample_id: content for sample_id, content in pairs if content})
    return {sample_id: (image, found["mask"].get(sample_id)) for sample_id, image in found["image"].items()}


def _name_models(build: BuildContext) -> dict[str, str]:
    """Every model of the build: where it came from and the digest that stands for its bytes."""
    models = {
        "generator": build.generator,
        "scorer": build.scorer,
        "encoder": build.encoder,
        "verifier": build.verifier,
        "language model": build.language_model,
    }
    return {f"sha256 of the {role}": model.digest for role, model in models.items() if model is not None}
