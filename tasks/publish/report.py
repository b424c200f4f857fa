"""Draw the report page of a version with its example images."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tailforge.catalog.metadata.generator_history import describe_training
from tailforge.catalog.sources.references import open_references
from tailforge.catalog.store import Store
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Concept
from tailforge.schemas.settings.licences import describe_licence
from tailforge.tasks.artifacts.contract import read_table
from tailforge.tasks.artifacts.partitions import BuiltPartition
from tailforge.tasks.publish.history import read_history
from tailforge.tasks.report.all_samples import gather_images
from tailforge.tasks.report.changes import choose_changed
from tailforge.tasks.report.data import Decisions, Earlier, PartitionWork, ReportData
from tailforge.tasks.report.page import PAGE, PER_REASON, choose_examples, draw_report, examples_per_concept
from tailforge.tasks.report.references import Reference, shrink_photograph
from tailforge.tasks.report.template_files import read_template
from tailforge.tasks.report.weakest import choose_weakest
from tailforge.tasks.report.worth import PARTS as WORTH
from tailforge.tasks.stages.adaptations import STAGE as ADAPTATIONS
from tailforge.tasks.stages.allocation import STAGE as ALLOCATION
from tailforge.tasks.stages.judges import STAGE as JUDGES
from tailforge.tasks.stages.registry import stage_names
from tailforge.tasks.stages.seeds import STAGE as SEEDS

ReadImages = Callable[[Sequence[str]], Mapping[str, tuple[bytes, bytes | None]]]
# Parts of the page's template.
PARTS = (
    "style.css", "morning.html", "allocation.html", "trend.html", "losses.html", "costs.html", "adaptation.html",
)  # fmt: skip
FOLDER = "report"  # inside the version's folder


def render_version_report(
    store: Store,
    build: BuildContext,
    folder: str,
    version: str,
    partitions: Sequence[BuiltPartition],
    receipts: Sequence[Receipt],
    unread: Mapping[str, int] | None = None,
) -> dict[str, bytes]:
    """Return the report's files from the tables in `folder` and the images in the partitions.

    `receipts`: of all other work, and of the partitions if available; each counts once. `unread`: prompts per
    concept that
    were not drawn, because the generator cannot read the concept in them. Errors: StoreError.
    """
    samples, masks = [part.samples for part in partitions], [part.masks for part in partitions]
    augmented = [part.augmented for part in partitions if part.augmented]
    with store.open_read(f"{folder}/manifest.parquet") as file:
        manifest = pq.ParquetFile(file).read(use_threads=False)
    with store.open_read(f"{folder}/rejects.parquet") as file:
        rejects = pq.ParquetFile(file).read(use_threads=False)

    read_images = partial(read_example_images, store, [*samples, *masks, *augmented])
    verdicts = [part.verdicts for part in partitions]
    ran = {each.uri: each for each in [*receipts, *samples, *masks, *verdicts, *augmented]}
    ordered = sorted(ran.values(), key=lambda each: (_place(each.stage), each.uri))
    concepts = [concept.name for concept in build.recipe.concepts]
    images = gather_images(manifest, rejects)

    return render_report(
        build,
        version,
        manifest,
        rejects,
        ordered,
        read_images,
        seeds=read_seeds(store, ordered),
        adaptation=read_adaptation(store, ordered),
        allocation=read_allocation(store, concepts, ordered),
        explanations=read_explanations(store, partitions),
        work=[PartitionWork(part.concept, list_work(part)) for part in partitions],
        earlier=read_history(store, build.recipe.name, version, folder, images, concepts),
        unread=unread,
    )


def list_work(partition: BuiltPartition) -> tuple[Receipt, ...]:
    """Return a partition's receipts in the order of its stages."""
    tables = (partition.samples, partition.masks, partition.verdicts, partition.augmented)
    return tuple(receipt for receipt in tables if receipt is not None)


def read_explanations(store: Store, partitions: Sequence[BuiltPartition]) -> dict[str, bytes]:
    """Return the pages of repaired samples by sample_id. Errors: StoreError."""
    pages = {}
    for mended in (part.samples for part in partitions if part.parent is not None):
        (sample_id,) = read_table(store, mended, ["sample_id"])["sample_id"].to_pylist()
        pages[sample_id] = store.read(mended.details["files"]["page"]["uri"])
    return pages


def _place(stage: str) -> int:
    """Return the stage's place in the order of a build; unknown stages come last."""
    names = stage_names()
    return names.index(stage) if stage in names else len(names)


def render_report(
    build: BuildContext,
    version: str,
    manifest: pa.Table,
    rejects: pa.Table,
    receipts: Sequence[Receipt],
    read_images: ReadImages,
    *,
    seeds: pa.Table | None = None,
    adaptation: pa.Table | None = None,
    allocation: Decisions | None = None,
    explanations: Mapping[str, bytes] | None = None,
    work: Sequence[PartitionWork] = (),
    earlier: Earlier | None = None,
    unread: Mapping[str, int] | None = None,
) -> dict[str, bytes]:
    """Return the report's files by name relative to the version's folder; the page is report/index.html.

    `read_images` returns images and masks of the given samples (a few hundred at most) if they exist. `seeds`: SEEDS of
    the build, if its images start from seeds. `adaptation`: its ADAPTATIONS, if it adapted its generator. `allocation`:
    decisions of a steered build. `explanations`: pages of repaired samples by sample_id. `work` and `earlier`: see
    ReportData.
    """
    per_concept = examples_per_concept(len(build.recipe.concepts))
    accepted, rejected = choose_examples(manifest, rejects, per_concept, PER_REASON)
    previous = earlier.previous if earlier else None
    fresh = choose_changed(previous) if previous else {"added": (), "changed": ()}
    changed = (*fresh["added"], *fresh["changed"])

    weakest = [each.sample_id for each in choose_weakest(build.recipe, manifest, rejects)]
    shown = dict.fromkeys((*accepted, *rejected, *weakest))
    images = read_images([*shown, *changed])
    data = ReportData(
        recipe=build.recipe,
        version=version,
        manifest=manifest,
        rejects=rejects,
        examples={each: images[each] for each in shown if each in images},
        receipts=receipts,
        lineage=_trace_origin(build),
        references=read_references(build, per_concept if build.recipe.sharding.references else 0),
        seeds=seeds,
        adaptation=adaptation,
        allocation=allocation,
        training=describe_training(build.generator_training) if build.generator_training else (),
        explanations=explanations or {},
        models={role: model.digest for role, model in build.models.items()},
        work=work,
        earlier=earlier or Earlier(),
        unread=unread or {},
        pictures={each: images[each][0] for each in changed if each in images},
    )

    return {f"{FOLDER}/{name}": content for name, content in draw_report(data, read_templates()).items()}


def read_templates() -> dict[str, str]:
    """Return the page's templates by file name."""
    names = (PAGE, *(f"report_{part}.j2" for part in PARTS), *WORTH.values())
    return {name: read_template(name) for name in names}


def read_example_images(
    store: Store, receipts: Sequence[Receipt], sample_ids: Sequence[str]
) -> dict[str, tuple[bytes, bytes | None]]:
    """Return images and masks of samples from the partitions of `receipts`: samples, then masks, then augmented.

    A later partition's image or mask replaces an earlier one, as augmentation in place does. The function reads one
    partition at a time, and only those with a requested sample. Errors: StoreError.
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


def read_seeds(store: Store, receipts: Sequence[Receipt]) -> pa.Table | None:
    """Return the records of the noises in SEEDS, without the noises; None without seeds. Errors: StoreError."""
    tables = [read_table(store, each, ["prompt", "record"]) for each in receipts if each.stage == SEEDS.name]
    return pa.concat_tables(tables) if tables else None


def read_adaptation(store: Store, receipts: Sequence[Receipt]) -> pa.Table | None:
    """Return the ADAPTATIONS of the build; None if it adapted no generator. Errors: StoreError."""
    tables = [read_table(store, each) for each in receipts if each.stage == ADAPTATIONS.name]
    return tables[0] if tables else None


def read_allocation(store: Store, concepts: Sequence[str], receipts: Sequence[Receipt]) -> Decisions | None:
    """Return the decisions of a steered build, with the seconds per concept; None for another build.

    Errors: StoreError.
    """
    made = {each.uri: each for each in receipts if each.stage == ALLOCATION.name}
    if not made:
        return None
    tables = {uri: read_table(store, each) for uri, each in made.items()}
    ordered = sorted(made, key=lambda uri: tables[uri]["round"][0].as_py())
    seconds = dict(zip(concepts, made[ordered[-1]].details["seconds"], strict=True))
    judging = sum(each.timings.get("compute", 0.0) for each in receipts if each.stage == JUDGES.name)
    return Decisions(pa.concat_tables([tables[uri] for uri in ordered]), seconds, judging)


def read_references(build: BuildContext, shown: int) -> dict[str, tuple[Reference, ...]]:
    """Return the photographs per concept, the first `shown` of each with a small picture.

    A build knows photographs by digest. A photograph missing from the recipe's folder has neither name nor picture.
    """
    named = [concept for concept in build.recipe.concepts if build.references.get(concept.name)]
    return {concept.name: _read_own_references(build, concept, shown) for concept in named}


def _read_own_references(build: BuildContext, concept: Concept, shown: int) -> tuple[Reference, ...]:
    """Return the photographs of one concept."""
    digests = build.references[concept.name]
    found: dict[str, list[Reference]] = {}
    with suppress(RecipeError, OSError):  # the images exist: publish without the photographs
        for each in open_references(Path(build.folder), concept) if build.folder is not None else ():
            picture = shrink_photograph(each.image) if each.sha256 in digests[:shown] else None
            found.setdefault(each.sha256, []).append(Reference(each.file.name, picture))
    return tuple(found[sha256].pop(0) if found.get(sha256) else Reference(None) for sha256 in digests)


def _trace_origin(build: BuildContext) -> dict[str, str]:
    """Return the digest of every model and LoRA file and the licence of all photographs by their label."""
    models = {f"sha256 of the {role.replace('_', ' ')}": model.digest for role, model in build.models.items()}
    used = () if build.generator is None else build.generator.loras
    loras = {f"sha256 of LoRA {lora.file}, weight {lora.weight:g}": lora.digest for lora in used}
    licences = {use: describe_licence(licence).name for use, licence in build.licences.items()}
    return models | loras | {f"licence of the photographs for {use}": name for use, name in licences.items()}
