"""The report page of a small build: read from its artifacts, and looked at in a real browser (Chromium)."""

import hashlib
import shutil
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from tailforge.catalog.store import Store
from tailforge.schemas.jobs import BuildContext, ResolvedModel
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import parse_recipe
from tailforge.schemas.tables import MANIFEST, MASKS, REJECTS, SAMPLES
from tailforge.schemas.training.record import TrainingRecord
from tailforge.tasks.artifacts.contract import Address, ArtifactKind, Made, run_once
from tailforge.tasks.methods.workshop import Scene, caption, render
from tailforge.tasks.publish.report import read_example_images, read_references, render_report
from tests.support.chromium import Chromium, needs_browser
from tests.support.training_records import make_record

CONCEPTS = ("gear", "hook")
HOSTILE = "<img src=x onerror=hacked=1><script>hacked=1</script>"
LOAD_IMAGES = (
    "Promise.all([...document.images].map(async (image) => {"
    " image.loading = 'eager'; await image.decode(); return image.naturalWidth; }))"
)


def _png(image: Image.Image) -> bytes:
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _row(schema: pa.Schema, **values: Any) -> dict[str, Any]:
    return dict.fromkeys(schema.names) | values


def _sample_id(number: int) -> str:
    return f"{number:016x}"


def _commit(store: Store, name: str, schema: pa.Schema, part: int, rows: list[dict[str, Any]]) -> Receipt:
    address = Address(ArtifactKind(name=name, version="1", schema=schema), part, name, {}, {})
    return run_once(store, address, lambda: Made(pa.Table.from_pylist(rows, schema=schema)))


def _build(folder: Path) -> tuple[BuildContext, pa.Table, pa.Table, list[Receipt]]:
    """Twelve samples a concept, every third one rejected; one partition a concept."""
    store = Store.open(str(folder), create=True)
    recipe = parse_recipe(
        {
            "name": "parts",
            "description": f"Gears and hooks. {HOSTILE}",
            "seed": 1,
            "concepts": [{"name": name, "requested": 8 + 4 * k} for k, name in enumerate(CONCEPTS)],
            "generator": {"model": "catalog:workshop"},
            "quality": {"gates": {"sharpness": {"min": 50}, "brightness": {"min_quantile": 0.1}}},
        },
        "recipe.yaml",
    )
    receipts, accepted, rejected = [], [], []
    for part, concept in enumerate(CONCEPTS):
        samples, masks = [], []
        for k in range(12):
            number = 12 * part + k
            scene = Scene(concept, "brass" if k % 2 else "steel", "concrete floor", number)
            drawn = render(scene)
            identity = {"sample_id": _sample_id(number), "concept": concept}
            image = _png(Image.fromarray(drawn.image))
            samples.append(_row(SAMPLES, **identity, status="ok", image=image, width=64, height=64))
            mask = _png(Image.fromarray(drawn.mask.astype("uint8") * (part + 1)))
            masks.append(_row(MASKS, sample_id=_sample_id(number), status="ok", mask=mask))
            scores = {"sharpness": 20.0 + 30 * (k % 3 > 0) + k, "brightness": float(drawn.image.mean()) / 255}
            text = caption(scene) + (HOSTILE if k == 1 else "")
            common = {
                **identity,
                **scores,
                "class_id": part,
                "attempt": 0,
                "caption": text,
                "width": 64,
                "height": 64,
                "seed": number,
            }
            if k % 3:
                accepted.append(_row(MANIFEST, **common, split="train", shard="train-000000.tar"))
            else:
                rejected.append(_row(REJECTS, **common, status="ok", reason="sharpness_low"))
        receipts += [_commit(store, "samples", SAMPLES, part, samples), _commit(store, "masks", MASKS, part, masks)]
    build = BuildContext(
        store=str(folder),
        recipe=recipe,
        generator=ResolvedModel(path="workshop", digest="0123456789abcdef" * 4),
        generator_training=TrainingRecord.model_validate(make_record(name=HOSTILE)),
    )
    tables = (pa.Table.from_pylist(accepted, schema=MANIFEST), pa.Table.from_pylist(rejected, schema=REJECTS))
    return build, *tables, receipts


def _render(folder: Path) -> dict[str, bytes]:
    build, manifest, rejects, receipts = _build(folder)
    read_images = partial(read_example_images, Store.open(str(folder)), receipts)
    return render_report(build, "1.0.0", manifest, rejects, receipts, read_images)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report, written where the publisher would put it."""
    version = tmp_path_factory.mktemp("version")
    for name, content in _render(tmp_path_factory.mktemp("store")).items():
        (version / name).parent.mkdir(parents=True, exist_ok=True)
        (version / name).write_bytes(content)
    return version / "report" / "index.html"


def test_every_example_brings_its_own_picture(tmp_path: Path) -> None:
    files = _render(tmp_path)
    pictures = {name for name in files if name.startswith("report/images/")}
    accepted = [number for number in range(24) if number % 3]
    rejected = [0, 12, 3, 15, 6, 18]  # six, of both concepts in turn
    assert pictures == {f"report/images/{_sample_id(number)}.png" for number in accepted + rejected}
    with Image.open(BytesIO(files[f"report/images/{_sample_id(12)}.png"])) as shown:
        drawn = render(Scene("hook", "steel", "concrete floor", 12)).image
        assert shown.tobytes() == drawn.tobytes()


def test_a_second_rendering_is_byte_equal(tmp_path: Path) -> None:
    build, manifest, rejects, receipts = _build(tmp_path)
    read_images = partial(read_example_images, Store.open(str(tmp_path)), receipts)
    once, again = (render_report(build, "1.0.0", manifest, rejects, receipts, read_images) for _ in range(2))
    assert once == again


def test_only_wanted_samples_are_read_and_a_missing_mask_is_none(tmp_path: Path) -> None:
    _, _, _, receipts = _build(tmp_path)
    images_only = [receipt for receipt in receipts if receipt.stage == "samples"]
    found = read_example_images(Store.open(str(tmp_path)), images_only, [_sample_id(13), "f" * 16])
    assert list(found) == [_sample_id(13)]
    assert found[_sample_id(13)][1] is None


def test_an_augmented_image_replaces_its_original(tmp_path: Path) -> None:
    _, _, _, receipts = _build(tmp_path)
    store = Store.open(str(tmp_path))
    rows = [_row(SAMPLES, sample_id=_sample_id(3), status="ok", image=b"augmented")]
    receipts.append(_commit(store, "augmented", SAMPLES, 0, rows))
    found = read_example_images(store, receipts, [_sample_id(3), _sample_id(4)])
    assert found[_sample_id(3)][0] == b"augmented"
    assert found[_sample_id(3)][1] is not None
    assert found[_sample_id(4)][0].startswith(b"\x89PNG")


def _referring(folder: Path) -> tuple[BuildContext, list[bytes]]:
    """The build of a recipe in `folder` whose gear has photographs; returns it with their bytes."""
    build, *_ = _build(folder / "store")
    (folder / "gears").mkdir()
    contents = [_png(Image.new("RGB", (400, 300), (60 * number, 90, 30))) for number in range(3)]
    for number, content in enumerate(contents):
        (folder / "gears" / f"{number} side.png").write_bytes(content)
    gear, hook = build.recipe.concepts
    recipe = build.recipe.model_copy(update={"concepts": (gear.model_copy(update={"references": "gears"}), hook)})
    digests = tuple(hashlib.sha256(content).hexdigest() for content in contents)
    changes = {"recipe": recipe, "folder": str(folder), "references": {"gear": digests}}
    return build.model_copy(update=changes), contents


def test_reference_photographs_have_the_numbers_that_the_build_gave_them(tmp_path: Path) -> None:
    build, _ = _referring(tmp_path)
    found = read_references(build, 2)
    assert list(found) == ["gear"]
    assert [each.file for each in found["gear"]] == ["0 side.png", "1 side.png", "2 side.png"]
    assert [each.picture is not None for each in found["gear"]] == [True, True, False]
    (tmp_path / "gears" / "0 side.png").unlink()
    (tmp_path / "gears" / "1 side.png").write_bytes(_png(Image.new("RGB", (40, 30))))
    left = read_references(build, 3)["gear"]
    assert [each.file for each in left] == [None, None, "2 side.png"]
    assert left[2].picture is not None


def test_a_recipe_can_keep_its_photographs_to_itself(tmp_path: Path) -> None:
    build, _ = _referring(tmp_path)
    private = build.recipe.sharding.model_copy(update={"references": False})
    build = build.model_copy(update={"recipe": build.recipe.model_copy(update={"sharding": private})})
    _, manifest, rejects, receipts = _build(tmp_path / "other")
    read_images = partial(read_example_images, Store.open(str(tmp_path / "other")), receipts)
    files = render_report(build, "1.0.0", manifest, rejects, receipts, read_images)
    assert not [name for name in files if "references/" in name]


@pytest.mark.parametrize("gone", ["folder", "recipe's folder", "unknown"])
def test_a_report_is_made_without_photographs_that_are_gone(tmp_path: Path, gone: str) -> None:
    build, _ = _referring(tmp_path)
    if gone == "folder":
        shutil.rmtree(tmp_path / "gears")
    else:
        build = build.model_copy(update={"folder": str(tmp_path / "elsewhere") if gone != "unknown" else None})
    _, manifest, rejects, receipts = _build(tmp_path / "other")
    read_images = partial(read_example_images, Store.open(str(tmp_path / "other")), receipts)
    files = render_report(build, "1.0.0", manifest, rejects, receipts, read_images)
    assert not [name for name in files if "references/" in name]
    assert b"0 of 3; 3 files could not be read again" in files["report/index.html"]


@needs_browser
def test_the_page_opens_from_disk_with_every_picture_and_no_network(page: Path, browser: Chromium) -> None:
    browser.open(page)
    loaded = browser.evaluate(LOAD_IMAGES)
    assert set(loaded) == {64}
    urls = [
        event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert {url.split(":")[0] for url in urls} == {"file", "data"}
    assert browser.complaints() == []
    assert browser.evaluate("document.compatMode") == "CSS1Compat"


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 800, 1280])
def test_nothing_is_wider_than_the_window(page: Path, browser: Chromium, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(page: Path, browser: Chromium, dark: bool) -> None:
    """Contrast of 4.5 or more, as WCAG 2.2 asks at level AA, on the page's ground and on cards."""
    browser.open(page, dark=dark)
    colours = browser.evaluate(
        "['body', '.muted', '.bad', '.good', '.key', 'main a, .detail a', '.lead', 'nav a:last-child']"
        ".map((name) => getComputedStyle(document.querySelector(name)).color)"
    )
    grounds = browser.evaluate(
        "['body', '.big'].map((n) => getComputedStyle(document.querySelector(n)).backgroundColor)"
    )
    assert (_luminance(grounds[0]) < 0.1) is dark
    for colour in colours:
        for ground in grounds:
            high, low = sorted((_luminance(colour), _luminance(ground)), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (colour, ground)


def _luminance(colour: str) -> float:
    """Relative luminance of "rgb(r, g, b)", by the definition of WCAG 2.2."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@needs_browser
def test_the_switch_hides_and_shows_the_masks(page: Path, browser: Chromium) -> None:
    browser.open(page)
    browser.evaluate(LOAD_IMAGES)
    browser.evaluate("document.getElementById('tiles').scrollIntoView({ behavior: 'instant' })")
    with_masks = browser.screenshot()
    browser.evaluate("document.getElementById('masks').click()")
    without = browser.screenshot()
    assert _magenta(with_masks) > 500
    assert _magenta(without) < 0.02 * _magenta(with_masks)
    browser.evaluate("document.getElementById('masks').click()")
    assert _magenta(browser.screenshot()) == _magenta(with_masks)


def _magenta(screenshot: bytes) -> int:
    """Pixels of the outline's colour, or nearly."""
    with Image.open(BytesIO(screenshot)) as image:
        red, green, blue = image.convert("RGB").split()
        close = [red.point(lambda v: v > 220), green.point(lambda v: v < 40), blue.point(lambda v: 130 < v < 200)]
        return sum(all(pixel) for pixel in zip(*(band.tobytes() for band in close), strict=True))


@needs_browser
def test_a_concept_can_be_shown_alone(page: Path, browser: Chromium) -> None:
    shown = "[...document.querySelectorAll('#tiles .tile')].filter((t) => t.offsetHeight).map((t) => t.dataset.concept)"
    browser.open(page)
    assert browser.evaluate(shown) == ["0"] * 8 + ["1"] * 8
    browser.evaluate("document.querySelector('#filter [data-show=\"1\"]').click()")
    assert browser.evaluate(shown) == ["1"] * 8
    assert browser.evaluate("document.querySelector('#filter [aria-pressed=true]').textContent") == "hook"
    browser.evaluate("document.querySelector('#filter [data-show=\"\"]').click()")
    assert len(browser.evaluate(shown)) == 16


@needs_browser
def test_a_link_opens_its_sample_and_the_keys_lead_on(page: Path, browser: Chromium) -> None:
    opened = "document.querySelector('.detail:popover-open')?.id"
    browser.open(page, anchor=f"#{_sample_id(2)}")
    assert browser.evaluate(opened) == _sample_id(2)
    text = browser.evaluate("document.querySelector('.detail:popover-open').innerText")
    assert f"tailforge regenerate {_sample_id(2)} --dataset parts" in text
    assert "at least 50" in text
    browser.press("ArrowRight")
    assert browser.evaluate(opened) == _sample_id(4)  # 3 was rejected
    browser.press("ArrowLeft")
    assert browser.evaluate(opened) == _sample_id(2)
    browser.evaluate("document.querySelector('.detail:popover-open .close').click()")
    assert browser.evaluate(opened) is None


@needs_browser
def test_what_it_shows_is_never_run(page: Path, browser: Chromium) -> None:
    browser.open(page)
    assert browser.evaluate("typeof hacked") == "undefined"
    assert HOSTILE in browser.evaluate("document.querySelector('header .lead').innerText")
    browser.evaluate(
        "document.body.append(document.createRange().createContextualFragment('<script>hacked=1</script>'))"
    )
    assert browser.evaluate("typeof hacked") == "undefined"  # the page's policy holds even for a script that got in
