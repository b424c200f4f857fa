"""Receipts: the small JSON records of finished partitions, and the only values that tasks exchange."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, field_validator

from tailforge.schemas.effort import Effort


def _check_place(path: str) -> str:
    """Refuse a path that could leave the store. Errors: ValueError."""
    if path.startswith("/") or ".." in path.split("/") or not path.isprintable() or len(path) > 1000:
        raise ValueError("a place in a store is a relative path without ..")
    return path


StorePath = Annotated[str, AfterValidator(_check_place)]


class Attachment(BaseModel):
    """A further file of a receipt, an entry of `details["files"]`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uri: StorePath
    bytes: int


class Footer(BaseModel):
    """Size and sha256 of a Parquet file's footer, which the checksums of its pages do not cover."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


ATTACHMENTS = TypeAdapter(Mapping[str, Attachment])


class Receipt(BaseModel):
    """The completion marker of one artifact, written last, next to its file.

    `uri`: path relative to the store, so that a store can be moved. `sha256`: digest of the file. `timings`: seconds;
    `compute` is the stage's own work, without `load` (loading models) and `wait` (waiting for them). Receipts contain
    the timings, since tables must be byte-equal between two runs. Receipts of older builds lack `effort` and `footer`.
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
        """Return the sizes in bytes of the receipt's files, by path in the store."""
        attached = self.details.get("files", {}).values()
        return {self.uri: self.bytes} | {each["uri"]: each["bytes"] for each in attached}

    @field_validator("details")
    @classmethod
    def _files_are_in_the_store(cls, details: dict[str, Any]) -> dict[str, Any]:
        if "files" in details:
            ATTACHMENTS.validate_python(details["files"])
        return details


class EngineInputs(BaseModel):
    """The inputs of an engine in addition to its job.

    A search reads AIMS of the concept, SEEDS of an earlier search, and AIMS of the other concepts (`rivals`). An
    inversion reads INVERSIONS. `others` holds results of further stages by stage.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    aim: Receipt | None = None
    seeds: tuple[Receipt, ...] = ()
    rivals: tuple[Receipt, ...] = ()
    inversion: Receipt | None = None
    others: dict[str, Receipt] = {}

    @property
    def digests(self) -> dict[str, str]:
        """Return the digests of all inputs by name, for an address."""
        single = {"aim": self.aim, "inversion": self.inversion, **self.others}
        own = {name: receipt.sha256 for name, receipt in single.items() if receipt is not None}
        for name, receipts in (("seed", self.seeds), ("rival", self.rivals)):
            own |= {f"{name} {number}": receipt.sha256 for number, receipt in enumerate(receipts)}
        return own
