"""Build and publish in this process, without Prefect."""

from pathlib import Path

from tailforge.catalog.store import Store
from tailforge.flows.build.walk import walk
from tailforge.flows.build_dataset import require_finished
from tailforge.flows.samples.remake import open_local
from tailforge.schemas.jobs import BuildContext
from tailforge.tasks.publish.publish import publish_version


def build_here(context: BuildContext) -> Path:
    """Build and publish a version; return its folder."""
    drive = open_local(Store.open(context.store))
    built = require_finished(walk(drive, context))
    receipts = [receipt.model_dump(mode="json") for receipt in drive.tally.receipts]
    published: dict[str, str] = publish_version.fn(
        context.model_dump(mode="json"),
        built.selected.selection.model_dump(mode="json"),
        [partition.model_dump(mode="json") for partition in built.partitions],
        [shard.model_dump(mode="json") for shard in built.shards],
        built.selected.rounds,
        receipts,
    )
    return Path(context.store) / "datasets" / published["name"] / published["version"]
