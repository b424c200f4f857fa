"""Decisions of persons as a build takes them: which concern a partition, and which still hold."""

import hashlib
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tailforge.catalog.store import Store
from tailforge.schemas.jobs import PartitionJob
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.review import Review, Verdict
from tailforge.tasks.artifacts.contract import read_table


def find_reviews(job: PartitionJob) -> tuple[Review, ...]:
    """The decisions on samples of a partition, by name alone: no image is read, so that planning stays quick."""
    planned = {sample.sample_id for sample in job.samples}
    return tuple(review for review in job.build.reviews if review.sample_id in planned)


def held_reviews(store: Store, samples: Receipt, reviews: Sequence[Review]) -> dict[str, Verdict]:
    """Decisions by sample_id, of those samples whose image is still the one that was looked at. Errors: StoreError."""
    if not reviews:
        return {}
    table = read_table(store, samples, ["sample_id", "image"])
    table = table.filter(pc.is_in(table["sample_id"], pa.array([review.sample_id for review in reviews])))
    pairs = zip(table["sample_id"].to_pylist(), table["image"].to_pylist(), strict=True)
    images = {sample_id: hashlib.sha256(image or b"").hexdigest() for sample_id, image in pairs}
    return {review.sample_id: review.decision for review in reviews if images.get(review.sample_id) == review.image}
