"""Keep the records of evaluations beside their version: `evaluations/<dataset>/<version>/<digest>.json` in the store.

`last.json` names the newest record. A record holds no time, so that equal evaluations have equal bytes.

A version never changes, so its card, Croissant file and report say "not evaluated" for ever. What an evaluation adds
is in copies of them, in the folder of the version's evaluations.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tailforge.catalog.store import Store
from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.documents.worth import Worth
from tailforge.schemas.errors import VerificationError

FOLDER = "evaluations"
FORMAT = "tailforge-evaluation/1"
LAST = "last.json"


@dataclass(frozen=True)
class KeptEvaluation:
    """The files of one evaluation, relative to the store."""

    record: str
    runs: str
    costs: str
    page: str


def name_files(dataset: str, version: str, digest: str) -> KeptEvaluation:
    """Return the places of an evaluation's files."""
    stem = f"{evaluation_folder(dataset, version)}/{digest}"
    return KeptEvaluation(f"{stem}.json", f"{stem}.parquet", f"{stem}.costs.json", f"{stem}.html")


def keep_record(store: Store, files: KeptEvaluation, record: Mapping[str, Any]) -> None:
    """Write the record, and name it as the newest of its version. Errors: StoreError."""
    store.write_bytes(files.record, write_json(record))
    folder, _, name = files.record.rpartition("/")
    store.write_bytes(f"{folder}/{LAST}", write_json({"record": name}))


def write_json(value: Mapping[str, Any]) -> bytes:
    """Return JSON that a person can read; equal values give equal bytes."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def evaluation_folder(dataset: str, version: str) -> str:
    """Return the folder of a version's evaluations, relative to the store."""
    return f"{FOLDER}/{dataset}/{version}"


def read_worth(store: Store, dataset: str, version: str) -> Worth | None:
    """Return what the newest evaluation says of a version; None without one.

    Errors: VerificationError for a damaged record.
    """
    folder = evaluation_folder(dataset, version)
    if not store.exists(f"{folder}/{LAST}"):
        return None
    try:
        found = parse_object(store.read(f"{folder}/{_name_last(store, folder)}"))
        if found.get("format") != FORMAT:
            raise ValueError(f"its format is {found.get('format')!r:.80}, here it is {FORMAT!r}")
        return Worth.read(found)
    except (ValueError, KeyError, FileNotFoundError) as error:
        raise VerificationError(
            f"{store.uri}/{folder}/{LAST} or its record is damaged: {describe_damage(error)}; remove the folder and "
            "run `tailforge evaluate` again"
        ) from error


def read_costs(store: Store, dataset: str, version: str) -> dict[str, Any] | None:
    """Return the costs of the newest evaluation of a version; None without one, or without readable costs."""
    folder = evaluation_folder(dataset, version)
    try:
        stem = _name_last(store, folder).removesuffix(".json")
        return parse_object(store.read(f"{folder}/{stem}.costs.json"))
    except (ValueError, KeyError, FileNotFoundError):
        return None


def _name_last(store: Store, folder: str) -> str:
    """Return the file name of the newest record. Errors: ValueError, KeyError, FileNotFoundError."""
    return str(parse_object(store.read(f"{folder}/{LAST}"))["record"])
