"""Every Python example of docs/how-to/consuming.md runs, as it stands there, on a version that was made for it."""

import gc
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from tailforge.catalog.exports.export import export_version
from tailforge.catalog.store import Store
from tests.support.fabricate import make_build, make_recipe, publish_build
from tests.support.repository import ROOT

PAGE = (ROOT / "docs" / "how-to" / "consuming.md").read_text()
FINITE = 'if "loss" in globals():\n    assert loss.isfinite()\n'
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page names: `store` with workshop 1.0.0, four shards of train, and its exports."""
    folder = tmp_path_factory.mktemp("consuming")
    store = Store.open(str(folder / "store"), create=True)
    recipe = make_recipe(name="workshop", sharding={"max_samples": 12})
    publish_build(make_build(store, recipe, {"gear": 30, "hook": 10, "ring": 20}), {"report/index.html": b"<html>"})
    export_version(store, "workshop", "1.0.0", "coco", folder / "workshop-coco")
    export_version(store, "workshop", "1.0.0", "huggingface", folder / "workshop-hub")
    return folder


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning",  # webdataset and datasets leave tars to the garbage collector
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:Lazy modules are a new feature:UserWarning",
    "ignore:ConjunctiveGraph is deprecated:DeprecationWarning",  # mlcroissant
    "ignore:The inplace keyword in DataFrame",  # mlcroissant
)
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_example_runs(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("MPLBACKEND", "agg")
    if "num_workers" in EXAMPLES[number]:
        # Workers are forked: from a process of the example's own, as a user's would be, not from that of all tests.
        script = tmp_path / "example.py"
        script.write_text(f"{EXAMPLES[number]}\n{FINITE}")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        subprocess.run([sys.executable, str(script)], check=True, timeout=300)
        return
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    torch.manual_seed(0)
    exec(compile(EXAMPLES[number], f"docs/how-to/consuming.md, example {number}", "exec"), names)
    if "loss" in names:
        assert math.isfinite(names["loss"].item())
    gc.collect()


def test_the_page_shows_every_reader() -> None:
    code = "\n".join(EXAMPLES)
    for word in ("DataLoader", "wds.WebDataset", "load_dataset", "duckdb", "mlcroissant", "where=", "state_dict"):
        assert word in code
