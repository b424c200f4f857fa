"""What a report is made of, at its smallest: two concepts, rows of the published tables, receipts; a page's parser."""

from html.parser import HTMLParser
from io import BytesIO
from typing import Any

import pyarrow as pa
from PIL import Image

from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe, parse_recipe
from tailforge.schemas.tables import MANIFEST, REJECTS
from tailforge.tasks.publish.report import read_templates
from tailforge.tasks.report.data import ReportData
from tailforge.tasks.report.page import draw_report

TEMPLATES = read_templates()
HOSTILE = '</script></style><script>alert("1")</script><img src=x onerror=alert(1)>\'"&'


def make_recipe() -> Recipe:
    data = {
        "name": "tiny",
        "description": "Two things.",
        "seed": 1,
        "concepts": [{"name": "gear", "requested": 3}, {"name": "hook", "requested": 2}],
        "splits": {"train": 0.8, "test": 0.2},
        "generator": {"model": "catalog:tiny"},
    }
    return parse_recipe(data, "recipe.yaml")


def make_row(number: int, concept: str, **values: Any) -> dict[str, Any]:
    row = dict.fromkeys([*MANIFEST.names, *REJECTS.names])
    class_id = {"gear": 0, "hook": 1}.get(concept, 0)
    return (
        row
        | {"sample_id": f"{number:016x}", "concept": concept, "class_id": class_id, "caption": concept, "attempt": 0}
        | values
    )


def make_manifest(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"split": "train", **{k: v for k, v in r.items() if v is not None}} for r in rows], MANIFEST
    )


def make_rejects(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"status": "ok", **{k: v for k, v in r.items() if v is not None}} for r in rows], REJECTS
    )


def make_picture(mode: str = "RGB") -> bytes:
    out = BytesIO()
    Image.new(mode, (8, 8), 1).save(out, "PNG")
    return out.getvalue()


def make_data(manifest: pa.Table, rejects: pa.Table, recipe: Recipe | None = None, **values: Any) -> ReportData:
    ids = [*manifest["sample_id"].to_pylist(), *rejects["sample_id"].to_pylist()]
    examples = {sample_id: (make_picture(), make_picture("L")) for sample_id in ids}
    fields: dict[str, Any] = {"version": "1.0.0", "examples": examples, "receipts": [], "lineage": {}, **values}
    return ReportData(recipe=recipe or make_recipe(), manifest=manifest, rejects=rejects, **fields)


class Page(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page.decode())
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, tag: str, attribute: str) -> list[str | None]:
        return [attributes.get(attribute) for name, attributes in self.tags if name == tag]


def make_receipt(stage: str, rows: int, seconds: float) -> Receipt:
    return Receipt(
        stage=stage,
        fingerprint="0" * 32,
        part=0,
        label=stage,
        uri="artifacts/x",
        sha256="0" * 64,
        rows=rows,
        bytes=1,
        timings={"compute": seconds},
        versions={"numpy": "2.4.6"},
    )


def read_page(data: ReportData) -> Page:
    """The page of some data, parsed."""
    return Page(draw_report(data, TEMPLATES)["index.html"])
