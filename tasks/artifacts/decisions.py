"""Find the repairs and reviews that still hold, because their images did not change."""

import hashlib
from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tailforge.catalog.store import Store
from tailforge.schemas.explanation import RepairRecord
from tailforge.schemas.jobs import BuildContext, PartitionJob
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.review import Review, Verdict
from tailforge.tasks.artifacts.contract import read_table

REPAIR_SOURCE = "repair"


def find_repairs(store: Store, build: BuildContext, job: PartitionJob, samples: Receipt) -> list[RepairRecord]:
    """Return the repairs of a partition's samples whose images did not change since. Errors: StoreError."""
    planned = {sample.sample_id for sample in job.samples}
    known = [repair for repair in build.repairs if repair.parent in planned]
    images = digest_images(store, samples, {repair.parent for repair in known})
    return [repair for repair in known if images.get(repair.parent) == repair.parent_image]


def repaired_job(job: PartitionJob, repair: RepairRecord, part: int) -> PartitionJob:
    """Return the job of one repaired sample. It keeps the parent's prompt and place in the plan, under a new id."""
    parent = next(sample for sample in job.samples if sample.sample_id == repair.parent)
    sample = parent.model_copy(update={"sample_id": repair.sample_id})
    return job.model_copy(update={"source": REPAIR_SOURCE, "part": part, "samples": (sample,)})


def find_reviews(job: PartitionJob) -> tuple[Review, ...]:
    """Return the reviews of a partition's samples. It reads no image, so that planning stays fast."""
    planned = {sample.sample_id for sample in job.samples}
    return tuple(review for review in job.build.reviews if review.sample_id in planned)


def valid_reviews(store: Store, samples: Receipt, reviews: Sequence[Review]) -> dict[str, Verdict]:
    """Return the decision by sample_id for images that did not change since their review. Errors: StoreError."""
    images = digest_images(store, samples, {review.sample_id for review in reviews})
    return {review.sample_id: review.decision for review in reviews if images.get(review.sample_id) == review.image}


def digest_images(store: Store, samples: Receipt, sample_ids: Collection[str]) -> dict[str, str]:
    """Return the sha256 (hex) of some samples' images by sample_id. Without samples it reads nothing.

    Errors: StoreError.
    """
    if not sample_ids:
        return {}
    table = read_table(store, samples, ["sample_id", "image"])
    table = table.filter(pc.is_in(table["sample_id"], pa.array(sorted(sample_ids), pa.string())))
    pairs = zip(table["sample_id"].to_pylist(), table["image"].to_pylist(), strict=True)
    return {sample_id: hashlib.sha256(image or b"").hexdigest() for sample_id, image in pairs}
