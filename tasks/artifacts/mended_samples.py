"""Repairs as a build takes them: which still hold, and the partitions that they are."""

import hashlib
from collections.abc import Sequence

import pyarrow.compute as pc

from tailforge.catalog.store import Store
from tailforge.schemas.explanation import RepairRecord
from tailforge.schemas.jobs import BuildContext, PartitionJob
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.contract import read_table

REPAIR_SOURCE = "repair"


def find_repairs(store: Store, build: BuildContext, job: PartitionJob, samples: Receipt) -> list[RepairRecord]:
    """The repairs of samples in a partition whose image is still the one that was mended. Errors: StoreError."""
    planned = {sample.sample_id for sample in job.samples}
    known = [repair for repair in build.repairs if repair.parent in planned]
    return _unchanged(store, known, samples) if known else []


def _unchanged(store: Store, repairs: Sequence[RepairRecord], samples: Receipt) -> list[RepairRecord]:
    table = read_table(store, samples, ["sample_id", "image"])
    images = {}
    for repair in repairs:
        (image,) = table.filter(pc.equal(table["sample_id"], repair.parent))["image"].to_pylist()
        images[repair.parent] = hashlib.sha256(image or b"").hexdigest()
    return [repair for repair in repairs if images[repair.parent] == repair.parent_image]


def mended_job(job: PartitionJob, repair: RepairRecord, part: int) -> PartitionJob:
    """The partition of one mended sample: its parent's prompt and place in the plan, an identity of its own."""
    parent = next(sample for sample in job.samples if sample.sample_id == repair.parent)
    sample = parent.model_copy(update={"sample_id": repair.sample_id})
    return job.model_copy(update={"source": REPAIR_SOURCE, "part": part, "samples": (sample,)})
