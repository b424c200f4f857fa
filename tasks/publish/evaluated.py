"""Write what an evaluation adds to a version beside its record: card, Croissant file and report, drawn anew.

A published version never changes, so these are copies in the folder of the version's evaluations. The report's pictures
are copied too (hard links on a local disk), so the folder can be opened and moved as it is.
"""

import json
from collections.abc import Mapping
from typing import Any

from tailforge.catalog.metadata.card import write_card
from tailforge.catalog.metadata.croissant import describe_croissant
from tailforge.catalog.metadata.evaluations import evaluation_folder, write_json
from tailforge.catalog.registry import DATASETS
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.documents.foreign_json import parse_object
from tailforge.schemas.documents.worth import NOT_EVALUATED, Worth
from tailforge.tasks.publish.report import FOLDER as REPORT
from tailforge.tasks.publish.report import read_templates
from tailforge.tasks.report.worth import draw_parts, replace_parts, view_worth

PAGE, SUMMARY = f"{REPORT}/index.html", f"{REPORT}/summary.json"


def describe_evaluated(store: Store, dataset: Dataset, worth: Worth) -> None:
    """Write the card, the Croissant file and the report of an evaluated version.

    A report that is lost or damaged is left out; `tailforge verify` finds it. Errors: StoreError.
    """
    target = evaluation_folder(dataset.name, dataset.version)
    store.write_bytes(f"{target}/README.md", write_card(dataset, worth).encode())
    croissant = json.dumps(describe_croissant(dataset, worth), indent=1, sort_keys=True) + "\n"
    store.write_bytes(f"{target}/croissant.json", croissant.encode())

    # Pages come last, so that a page never misses a picture.
    source = f"{DATASETS}/{dataset.name}/{dataset.version}"
    try:
        files = _draw_pages(store, source, dataset, worth)
    except (FileNotFoundError, ValueError):
        return
    for name in dataset.files:
        if name.startswith(f"{REPORT}/") and name not in files and not store.exists(f"{target}/{name}"):
            store.copy(f"{source}/{name}", f"{target}/{name}")
    for name, content in files.items():
        store.write_bytes(f"{target}/{name}", content)


def _draw_pages(store: Store, source: str, dataset: Dataset, worth: Worth) -> dict[str, bytes]:
    """Return page and summary with the worth. Errors: FileNotFoundError, ValueError for a damaged report."""
    parts = draw_parts(view_worth(dataset.name, dataset.version, worth), read_templates())
    files = {PAGE: replace_parts(store.read(f"{source}/{PAGE}").decode(), parts).encode()}
    if SUMMARY in dataset.files:
        files[SUMMARY] = write_json(_tell(parse_object(store.read(f"{source}/{SUMMARY}")), worth))
    return files


def _tell(summary: Mapping[str, Any], worth: Worth) -> dict[str, Any]:
    """Return the summary with the worth; the verdict on a complete build becomes that of the evaluation."""
    verdict = summary.get("verdict")
    told = {"worth": worth.model_dump(mode="json", exclude={"doses", "classes"})}
    if not isinstance(verdict, dict) or not str(verdict.get("text", "")).lower().startswith(NOT_EVALUATED):
        return {**summary, **told}
    return {**summary, "verdict": {**verdict, "text": worth.verdict}, **told}
