"""Every Python block of README, tutorials and how-tos runs, as it stands there, on a version that was made for it."""

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
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    ViTConfig,
    ViTImageProcessor,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTModel,
)

from tailforge.catalog.exports.export import export_version
from tailforge.catalog.store import Store
from tests.support.fabricate import make_build, make_recipe, publish_build
from tests.support.image_files import put
from tests.support.repository import ROOT

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "tutorials").glob("*.md")),
    # tests/flows/cli/test_hub.py runs what hub.md shows, on a server.
    *sorted(page for page in (ROOT / "docs" / "how-to").glob("*.md") if page.name != "hub.md"),
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXAMPLES = {
    f"{page.name} {number}": block
    for page in PAGES
    for number, block in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1)
}
FINITE = 'if "loss" in globals():\n    assert loss.isfinite()\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with what the pages name: `store` with workshop 1.0.0, four shards of train, and its exports."""
    folder = tmp_path_factory.mktemp("consuming")
    store = Store.open(str(folder / "store"), create=True)
    recipe = make_recipe(name="workshop", sharding={"max_samples": 12})
    publish_build(make_build(store, recipe, {"gear": 30, "hook": 10, "ring": 20}), {"report/index.html": b"<html>"})
    export_version(store, "workshop", "1.0.0", "coco", folder / "workshop-coco")
    export_version(store, "workshop", "1.0.0", "huggingface", folder / "workshop-hub")
    save_encoders(folder)
    for number, name in enumerate(("gear", "hook", "ring") * 3):
        put(folder / "photos" / name / f"{number}.png", number, size=(80, 64))
    return folder


def save_encoders(folder: Path) -> None:
    """Save what `tailforge pretrain` saves, untrained: an encoder of each use for 64 x 64 pixels, and a picture."""
    size: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    view: dict[str, Any] = size | {"image_size": 64, "patch_size": 8}
    decoder = {f"decoder_{key}": value for key, value in size.items()}
    encoders = {
        "encoder": ViTModel(ViTConfig(**view), add_pooling_layer=False),
        "masked-encoder": ViTMAEForPreTraining(ViTMAEConfig(**view, **decoder)),
        "caption-encoder": CLIPModel(CLIPConfig(text_config=size, vision_config=view)),
    }
    for name, encoder in encoders.items():
        encoder.save_pretrained(folder / name)
        ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder / name)
    Image.new("RGB", (64, 64), "teal").save(folder / "picture.png")


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning",  # webdataset and datasets leave tars to the garbage collector
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:Lazy modules are a new feature:UserWarning",
    "ignore:ConjunctiveGraph is deprecated:DeprecationWarning",  # mlcroissant
    "ignore:The inplace keyword in DataFrame",  # mlcroissant
)
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_runs(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, example: str) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("MPLBACKEND", "agg")
    if "num_workers" in EXAMPLES[example]:
        # Workers are forked: from a process of the example's own, as a user's would be, not from that of all tests.
        script = tmp_path / "example.py"
        script.write_text(f"{EXAMPLES[example]}\n{FINITE}")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        subprocess.run([sys.executable, str(script)], check=True, timeout=300)
        return
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    torch.manual_seed(0)
    exec(compile(EXAMPLES[example], example, "exec"), names)
    if "loss" in names:
        assert math.isfinite(names["loss"].item())
    gc.collect()


def test_the_page_shows_every_reader() -> None:
    code = "\n".join(block for name, block in EXAMPLES.items() if name.startswith("consuming.md"))
    for word in ("DataLoader", "wds.WebDataset", "load_dataset", "duckdb", "mlcroissant", "where=", "state_dict"):
        assert word in code
