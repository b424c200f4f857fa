"""Receipts: the small JSON that a finished partition leaves, and the only thing that tasks hand to each other."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, field_validator

from tailforge.schemas.effort import Effort


def _check_place(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/") or not path.isprintable() or len(path) > 1000:
        raise ValueError("a place in a store is a relative path without ..")
    return path


StorePath = Annotated[str, AfterValidator(_check_place)]


class Attachment(BaseModel):
    """A further file under a receipt, as `details["files"]` tells it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uri: StorePath
    bytes: int


class Footer(BaseModel):
    """The end of a Parquet file, which the checksums of its pages do not cover; `sha256` is of its bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


ATTACHMENTS = TypeAdapter(Mapping[str, Attachment])


class Receipt(BaseModel):
    """Completion marker of one artifact, written last, beside its file.

    `uri` is relative to the store, so a store can be moved. `sha256` is of the file's bytes. `timings` holds seconds
    (`compute` is the stage's own work; `load`, of models, and `wait`, for them, are not in it). Timings live here and
    never in tables, because tables must be byte-equal between two runs. Receipts of older builds have neither
    `effort` nor `footer`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    fingerprint: str
    part: int
    label: str
    uri: StorePath
    sha256: str
    rows: int
    bytes: int
    counts: dict[str, int] = {}
    timings: dict[str, float] = {}
    models: dict[str, str] = {}
    versions: dict[str, str] = {}
    details: dict[str, Any] = {}
    effort: Effort | None = None
    footer: Footer | None = None

    @property
    def files(self) -> dict[str, int]:
        """Bytes of every file under this receipt, by its place in the store."""
        attached = self.details.get("files", {}).values()
        return {self.uri: self.bytes} | {each["uri"]: each["bytes"] for each in attached}

    @field_validator("details")
    @classmethod
    def _files_lie_in_the_store(cls, details: dict[str, Any]) -> dict[str, Any]:
        if "files" in details:
            ATTACHMENTS.validate_python(details["files"])
        return details


class EngineInputs(BaseModel):
    """What an engine reads beside its job.

    One that searches: AIMS of the concept, SEEDS found before, AIMS of rival concepts. One that inverts: INVERSIONS.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    aim: Receipt | None = None
    seeds: tuple[Receipt, ...] = ()
    rivals: tuple[Receipt, ...] = ()
    inversion: Receipt | None = None

    @property
    def digests(self) -> dict[str, str]:
        """Content of everything read, for an address."""
        single = {"aim": self.aim, "inversion": self.inversion}
        own = {name: receipt.sha256 for name, receipt in single.items() if receipt is not None}
        for name, receipts in (("seed", self.seeds), ("rival", self.rivals)):
            own |= {f"{name} {number}": receipt.sha256 for number, receipt in enumerate(receipts)}
        return own
