"""Choose the images of a steered build that are kept, for stage `preferences`."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailforge.catalog.store import Store
from tailforge.schemas.allocation import PreferenceJob
from tailforge.schemas.evaluation import DIGITS
from tailforge.schemas.tables import PREFERENCES
from tailforge.tasks.artifacts.contract import Made, read_table
from tailforge.tasks.artifacts.stage import Workplace
from tailforge.tasks.methods.allocation.preference import measure_entropy, prefer_images
from tailforge.tasks.methods.evaluation.leakage import Fingerprints, find_leaks
from tailforge.tasks.stages.judges import settings_of
from tailforge.tasks.stages.work.judges import load_real, number_concepts, predict_shares, read_rows

KIND = "validation image"


def produce(workplace: Workplace, job: PreferenceJob) -> Made:
    """Make the PREFERENCES of a round. Errors: RecipeError if the real images changed; ImagesError, StoreError."""
    allocation, rows = settings_of(job.build), list_accepted(workplace.store, job)
    labels = number_concepts(job.build, rows["concept"].to_pylist())
    places = list(zip(rows["partition"].to_pylist(), rows["row"].to_pylist(), strict=True))
    images = read_rows(workplace.store, job.build, job.samples, places)

    # What both classifiers say, and twins of validation images.
    shares = predict_shares(workplace.store, job.build, job.judge, images)
    entropy = np.round(measure_entropy(shares), DIGITS)
    verified = predict_shares(workplace.store, job.build, job.verifier, images)
    right = np.round(verified[np.arange(len(labels)), labels], DIGITS)
    drawn = Fingerprints("drawn image", rows["sample_id"].to_pylist(), rows["sample_id"].to_pylist(), images)
    seen = np.zeros(len(labels), bool)
    seen[[leak.image for leak in find_leaks(drawn, [load_real(job.build).validation.fingerprints])]] = True

    reasons = prefer_images(labels, entropy, right, seen, allocation.keep, allocation.floor)
    found = {"entropy": entropy, "probability": right, "reason": pa.array(reasons, pa.string())}
    for name, column in found.items():
        rows = rows.append_column(name, [column])
    return Made(rows.cast(PREFERENCES))


def list_accepted(store: Store, job: PreferenceJob) -> pa.Table:
    """Return sample_id, concept, partition and row of the accepted images of the round. `partition` counts within it.

    Errors: StoreError.
    """
    table = read_table(store, job.selection, ["sample_id", "concept", "partition", "row", "accepted"])
    inside = pc.and_(
        pc.greater_equal(table["partition"], job.first), pc.less(table["partition"], job.first + len(job.samples))
    )
    rows = table.filter(pc.and_(table["accepted"], inside)).drop_columns(["accepted"])
    place = rows.schema.get_field_index("partition")
    return rows.set_column(place, "partition", pc.subtract(rows["partition"], pa.scalar(job.first, pa.int32())))
