"""dataset.json of others: what would become a path, a place or a size is refused when the record is read."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from tailforge.schemas.dataset import Dataset
from tailforge.schemas.recipe import parse_recipe

SHA = "0" * 64
RECIPE = {
    "name": "parts",
    "description": "Parts.",
    "seed": 0,
    "generator": {"model": "catalog:workshop"},
    "engine": {"kind": "plain"},
    "prompts": {"templates": ["a {concept}"]},
}
SHARD = {"name": "train-000000.tar", "split": "train", "samples": 2, "bytes": 10240, "sha256": SHA}
RECORD: dict[str, Any] = {
    "name": "parts",
    "version": "1.0.0",
    "created": "2026-11-22T10:00:00+00:00",
    "changes": {},
    "counts": {"samples": 2, "rejected": 0, "by_split": {"train": 2}, "by_concept": {"gear": 2}},
    "fields": ["cls", "json", "png", "seg.png", "txt"],
    "classes": ["gear"],
    "recipe": {
        "description": "Parts.",
        "license": "CC0-1.0",
        "creator": "Tests",
        "concepts": [{"name": "gear", "wanted": 2}],
        "engine": {"kind": "plain"},
        "generator": {"model": "catalog:workshop"},
    },
    "lineage": {"fingerprints": {"samples": ["0123456789abcdef" * 2]}},
    "shards": [SHARD],
    "files": {"shards/train-000000.tar": {"bytes": 10240, "sha256": SHA}},
}


def shard(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda record: record["shards"][0].update(changes)


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "a name that leaves": lambda record: record.update(name="../../x"),
    "a name with a line break": lambda record: record.update(name="parts\n"),
    "a version that is a path": lambda record: record.update(version="1.0.0/.."),
    "other digits": lambda record: record.update(version="١.0.0"),
    "no date": lambda record: record.update(created="yesterday"),
    "a split that leaves": shard(split="../../../../X", name="../../../../X-000000.tar"),
    "a shard that leaves": shard(name="../train-000000.tar"),
    "a shard of another split": shard(name="test-000000.tar"),
    "a digest that is a path": shard(sha256="../../x"),
    "a shard of no samples": shard(samples=0),
    "more samples than a shard can hold": shard(samples=10**6),
    "a shard that files do not have": lambda record: record["files"].clear(),
    "a shard twice": lambda record: record["shards"].append(dict(SHARD)),
    "a file that leaves": lambda record: record["files"].update({"../x": {"bytes": 1, "sha256": SHA}}),
    "a file of the root": lambda record: record["files"].update({"/etc/passwd": {"bytes": 1, "sha256": SHA}}),
    "a hidden file": lambda record: record["files"].update({".claims/x": {"bytes": 1, "sha256": SHA}}),
    "negative counts": lambda record: record["counts"].update(samples=-1),
    "endless counts": lambda record: record["counts"].update(samples=10**30),
    "a class that turns text": lambda record: record.update(classes=["ge\u202ear"]),
    "a class with a line break": lambda record: record.update(classes=["ge\nar"]),
    "no classes": lambda record: record.update(classes=[]),
    "other categories": lambda record: record.update(categories=[{"name": "hook", "thing": True}]),
    "stuff before things": lambda record: record.update(
        categories=[{"name": "gear", "thing": False}, {"name": "bench", "thing": True}]
    ),
    "no image": lambda record: record.update(fields=["cls", "json", "seg.png", "txt"]),
    "an unknown field": lambda record: record.update(fields=["cls", "json", "png", "seg.png", "sh", "txt"]),
    "no fingerprints": lambda record: record["lineage"].clear(),
    "a fingerprint that leaves": lambda record: record["lineage"].update(fingerprints={"samples": ["../../x"]}),
    "a stage that leaves": lambda record: record["lineage"].update(fingerprints={"../samples": []}),
    "rounds of words": lambda record: record["lineage"].update(rounds=[{"gear": "many"}]),
    "no description": lambda record: record["recipe"].pop("description"),
    "no generator": lambda record: record["recipe"].update(generator=None),
    "null shards": lambda record: record.update(shards=None),
    "an unknown key": lambda record: record.update(run="x"),
}


def test_a_record_with_what_older_versions_lack_is_read() -> None:
    found = Dataset.model_validate(RECORD)
    assert [category.name for category in found.mask_categories] == ["gear"]
    assert found.counts.surplus == 0


JOINED = ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0915\u094d\u200d\u0937")


@pytest.mark.parametrize("name", [*JOINED, "\u30e2\u30ce\u3000\u7269"])
def test_a_class_that_a_recipe_can_have_is_one_that_a_version_can_have(name: str) -> None:
    """Joiners belong to how words of some scripts are written, and turn nothing."""
    (concept,) = parse_recipe(RECIPE | {"concepts": [{"name": name, "wanted": 1}]}, "recipe").concepts
    record = RECORD | {"classes": [concept.name], "recipe": RECORD["recipe"] | {"concepts": [concept.model_dump()]}}
    record |= {"counts": RECORD["counts"] | {"by_concept": {concept.name: 2}}}
    assert Dataset.model_validate(record).mask_categories[0].name == concept.name


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_record_that_cannot_be_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    record = copy.deepcopy(RECORD)
    change(record)
    with pytest.raises(ValidationError):
        Dataset.model_validate(record)
