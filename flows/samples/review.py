"""The samples that a person reviews: their scores, pictures and decisions."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tailforge.catalog.metadata.reviews import Decisions, forget_decision, read_decisions, record_decision
from tailforge.catalog.reading.tables import read_columns
from tailforge.catalog.reading.version import TABLES, Version
from tailforge.catalog.reading.version import open_version as open_published
from tailforge.catalog.store import Store
from tailforge.flows.build.choose import split_reference
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.documents.sample import SampleDocument
from tailforge.schemas.errors import NotFoundError, PictureError, StoreAccessError, VerificationError
from tailforge.schemas.review import Decision, Verdict
from tailforge.schemas.settings.annotation import Category
from tailforge.schemas.settings.gates import GATES
from tailforge.tasks.report.outcomes import SURPLUS
from tailforge.tasks.report.overlays import draw_overlay, list_crowds
from tailforge.tasks.stages.masks import STAGE as MASKS
from tailforge.tasks.stages.repairs import STAGE as REPAIRS
from tailforge.tasks.stages.samples import STAGE as SAMPLES

SHOWN = ("sample_id", "parent_id", "concept", "caption", "split", "shard", "members", "status", "reason", *GATES)
DRAWN = (SAMPLES.name, REPAIRS.name)  # stages whose rows are images that a version may hold
IMAGES = {"png": "image/png", "jpg": "image/jpeg"}
Picture = tuple[bytes, str]  # bytes and their media type


@dataclass(frozen=True)
class ReviewedSamples:
    """Samples of a version or a build by sample_id, with the columns `SHOWN`; `unjudged`: those without a verdict.

    Augmented copies are left out, since they follow from their originals, and failed samples, which have no image.
    `stuff`: mask values of stuff. `version`: the published version, None for a build. `artifacts`: paths by stage.
    """

    store: Store
    dataset: str
    label: str
    rows: Mapping[str, Mapping[str, Any]]
    stuff: Sequence[int]
    artifacts: Mapping[str, Sequence[str]]
    version: Version | None = None
    unjudged: Set[str] = frozenset()

    def list_samples(self) -> list[dict[str, Any]]:
        """Return the facts that the page shows per sample, in the order of the version."""
        return [
            {
                "id": sample_id,
                **{name: row[name] for name in ("concept", "caption", "split", "reason")},
                "state": "unjudged" if sample_id in self.unjudged else _state(row),
                "has_mask": bool(row["mask_area"]),
                "scores": {name: row[name] for name in GATES if _is_number(row[name])},
            }
            for sample_id, row in self.rows.items()
        ]

    def read_image(self, sample_id: str) -> Picture:
        """Return the published image, or the drawn one of an unpublished sample. Errors: NotFoundError, StoreError."""
        row = self._find(sample_id)
        for kind, media in IMAGES.items():
            if (data := self._read_member(row, kind)) is not None:
                return data, media
        return self._read_made(sample_id), IMAGES["png"]

    def read_overlay(self, sample_id: str) -> Picture:
        """Return a PNG that shows the mask when laid over the image.

        Errors: NotFoundError without a mask; VerificationError, StoreError.
        """
        row = self._find(sample_id)
        mask = self._read_member(row, "seg.png") or self._read_artifact(self._masks, sample_id, "mask")
        if mask is None:
            raise NotFoundError(f"sample {sample_id} of {self.label} has no mask")
        try:
            return draw_overlay(mask, self.stuff, list_crowds(self._read_instances(row))), IMAGES["png"]
        except (PictureError, ValueError) as error:
            raise VerificationError(f"the mask of sample {sample_id} of {self.label} is damaged: {error}") from error

    def read_decisions(self) -> Decisions:
        """Return the decisions on the dataset. Errors: StoreAccessError."""
        return read_decisions(self.store, self.dataset)

    def decide(self, sample_id: str, decision: Verdict | None, reason: str = "", reviewer: str = "") -> Decision | None:
        """Record a decision for the next build, or remove it if `decision` is None.

        Errors: NotFoundError for an unknown sample or a missing image; StoreAccessError.
        """
        self._find(sample_id)
        if decision is None:
            forget_decision(self.store, self.dataset, sample_id)
            return None

        made = Decision(
            sample_id=sample_id,
            image=hashlib.sha256(self._read_made(sample_id)).hexdigest(),
            decision=decision,
            reason=reason,
            reviewer=reviewer,
            decided_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

        record_decision(self.store, self.dataset, made)
        return made

    def _find(self, sample_id: str) -> Mapping[str, Any]:
        if sample_id not in self.rows:
            raise NotFoundError(f"{self.label} has no sample {sample_id!r} to review")
        return self.rows[sample_id]

    def _read_member(self, row: Mapping[str, Any], name: str) -> bytes | None:
        return None if self.version is None else self.version.read_member(row, name)

    def _read_instances(self, row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return the instances of a sample. Errors: ValueError for a damaged document."""
        if (document := self._read_member(row, "json")) is not None:
            return [each.model_dump() for each in SampleDocument.model_validate_json(document).instances]
        return self._read_artifact(self._masks, row["sample_id"], "instances") or []

    def _read_made(self, sample_id: str) -> bytes:
        """The PNG as the engine or a repair made it, which the version's shards may hold in another encoding."""
        image: bytes | None = self._read_artifact(self._images, sample_id, "image")
        if image is None:
            raise NotFoundError(
                f"the image of sample {sample_id} is no longer among the artifacts of {self.store.uri}; build "
                f"{self.dataset} again"
            )
        return image

    def _read_artifact(self, places: Mapping[str, str], sample_id: str, column: str) -> Any:
        """Return the value of a column of a sample's row; None if it is not among the artifacts."""
        if (path := places.get(sample_id)) is None or not self.store.exists(path):
            return None
        table = read_columns(self.store, path, ("sample_id", column))
        found = table.filter(pc.equal(table["sample_id"], sample_id))[column].to_pylist()
        return found[0] if found else None

    @cached_property
    def _images(self) -> dict[str, str]:
        return self._locate(DRAWN)

    @cached_property
    def _masks(self) -> dict[str, str]:
        return self._locate((MASKS.name,))

    def _locate(self, stages: Sequence[str]) -> dict[str, str]:
        """Path of the artifact of every sample."""
        paths = [path for stage in stages for path in self.artifacts.get(stage, ())]
        tables = ((path, read_columns(self.store, path, ("sample_id",))) for path in paths)
        return {sample_id: path for path, table in tables for sample_id in table["sample_id"].to_pylist()}


def open_version(reference: str, uri: str) -> ReviewedSamples:
    """Return the samples of a version. `reference`: dataset or dataset@version.

    Errors: NotFoundError, StoreAccessError, VerificationError.
    """
    store = Store.open(uri)
    name, version = split_reference(reference)
    opened = open_published(store, name, version, TABLES)
    dataset = opened.dataset
    require_decisions(store, name)
    tables = (opened.read_table(table, SHOWN) for table in TABLES)

    return ReviewedSamples(
        store=store,
        dataset=name,
        label=f"{name}@{dataset.version}",
        rows={row["sample_id"]: row for table in tables for row in _list_rows(table)},
        stuff=stuff_values(dataset.mask_categories),
        artifacts={stage: list(_list_artifacts(store, dataset, stage)) for stage in (*DRAWN, MASKS.name)},
        version=opened,
    )


def require_decisions(store: Store, dataset: str) -> None:
    """Check that the store can keep decisions. Errors: StoreAccessError."""
    if not store.is_local:
        raise StoreAccessError(f"store {store.uri!r}: decisions need a folder on a local disk; give one by --store")
    read_decisions(store, dataset)


def stuff_values(categories: Sequence[Category]) -> list[int]:
    """Return the mask values of stuff."""
    return [value for value, each in enumerate(categories, 1) if not each.thing]


def _list_artifacts(store: Store, dataset: Dataset, stage: str) -> Iterator[str]:
    """Yield the paths of a stage's files that a version's lineage lists."""
    for fingerprint in dataset.lineage.get("fingerprints", {}).get(stage, ()):
        folder = f"artifacts/{stage}/{fingerprint}"
        names = [name for name in store.names(folder) if name.endswith(".parquet") and not name.startswith(".")]
        yield from (f"{folder}/{name}" for name in names)


def _list_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for row in table.to_pylist():
        if row.get("status") != "failed" and row["parent_id"] in (None, row["sample_id"]):
            yield dict.fromkeys(SHOWN) | row


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _state(row: Mapping[str, Any]) -> str:
    if row["reason"] is None:
        return "accepted"
    return "surplus" if row["reason"] == SURPLUS else "rejected"
