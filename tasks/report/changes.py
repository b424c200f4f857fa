"""Compare a version with the previous one: samples, recipe fields, models and libraries."""

import copy
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe, rename_old_keys
from tailforge.tasks.report.data import Previous

PICTURES = 6  # per kind of change


@dataclass(frozen=True)
class Change:
    """A named value before and after, as text; "" for a missing one."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Changes:
    """`added` and `removed` count samples by concept; `columns` count changed samples by changed column.

    `remade`: new partitions by stage, for the stages in the previous record. `examples`: ids of samples to show, by
    kind.
    """

    previous: str
    added: Mapping[str, int]
    removed: Mapping[str, int]
    changed: int
    columns: Mapping[str, int]
    recipe: tuple[Change, ...]
    models: tuple[Change, ...]
    libraries: tuple[Change, ...]
    remade: Mapping[str, int]
    examples: Mapping[str, tuple[str, ...]]


def compare_builds(
    previous: Previous, recipe: Recipe, manifest: pa.Table, models: Mapping[str, str], receipts: Sequence[Receipt]
) -> Changes:
    """Return the changes from `previous` to the version that the other arguments describe."""
    concept = dict(zip(manifest["sample_id"].to_pylist(), manifest["concept"].to_pylist(), strict=True))
    columns = Counter(column for names in previous.changed.values() for column in names)
    before = {name: ", ".join(versions) for name, versions in previous.libraries.items()}
    stages = previous.fingerprints or {receipt.stage for receipt in receipts}  # older records name no stages

    return Changes(
        previous=previous.version,
        added=dict(sorted(Counter(concept[each] for each in previous.added).items())),
        removed=dict(sorted(Counter(previous.removed.values()).items())),
        changed=len(previous.changed),
        columns=dict(sorted(columns.items(), key=lambda item: (-item[1], item[0]))),
        recipe=list_changes(flatten_recipe(previous.recipe), flatten_recipe(recipe.model_dump(mode="json"))),
        models=list_changes(previous.models, models),
        libraries=list_changes(before, name_libraries(receipts, stages)),
        remade=dict(Counter(receipt.stage for receipt in receipts if is_new(receipt, previous.fingerprints))),
        examples=choose_changed(previous),
    )


def is_new(receipt: Receipt, known: Mapping[str, Collection[str]]) -> bool:
    """Return whether a receipt's stage has `known` fingerprints without the receipt's own."""
    return receipt.stage in known and receipt.fingerprint not in known[receipt.stage]


def choose_changed(previous: Previous) -> dict[str, tuple[str, ...]]:
    """Return at most PICTURES samples per kind of change; changed samples only if their image changed."""
    redrawn = [each for each, columns in previous.changed.items() if any(map(_is_image, columns))]
    kinds = {"added": previous.added, "removed": sorted(previous.removed), "changed": redrawn}
    return {kind: tuple(ids[:PICTURES]) for kind, ids in kinds.items()}


def flatten_recipe(stored: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of a stored recipe as text by their keys, as an author writes them today."""
    data = copy.deepcopy(dict(stored))
    rename_old_keys(data)
    return flatten(data)


def flatten(value: Any, name: str = "") -> dict[str, str]:
    """Return dotted names with values as text. List entries with a `name` use it; other lists are one value."""
    if isinstance(value, Mapping):
        parts = dict(value)
    elif isinstance(value, (list, tuple)) and value and all(isinstance(v, Mapping) and "name" in v for v in value):
        parts = {str(each["name"]): each for each in value}
    else:
        return {name: "" if value is None else _show(value)}
    found: dict[str, str] = {}
    for key, inner in parts.items():
        found |= flatten(inner, f"{name}.{key}" if name else str(key))
    return found


def list_changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    """Return the names with different values, in the order of `after`, then the removed names."""
    names = dict.fromkeys([*after, *before])
    pairs = [Change(name, before.get(name, ""), after.get(name, "")) for name in names]
    return tuple(change for change in pairs if change.before != change.after)


def name_libraries(receipts: Sequence[Receipt], stages: Collection[str]) -> dict[str, str]:
    """Return the versions of each library that these stages used."""
    versions: dict[str, set[str]] = {}
    for receipt in receipts:
        for name, version in receipt.versions.items() if receipt.stage in stages else ():
            versions.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(found)) for name, found in sorted(versions.items())}


def _is_image(column: str) -> bool:
    return column in ("members.png", "members.jpg")


def _show(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_show, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
