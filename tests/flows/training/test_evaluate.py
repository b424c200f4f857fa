"""`tailforge evaluate`, as a user calls it: gains, leaks, kills, equal bytes and bad input."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tailforge.catalog.sources.models import digest_model
from tailforge.catalog.store import Store
from tailforge.flows.training.evaluate_version import evaluate_version
from tailforge.flows.training.evaluation_costs import price_seconds
from tailforge.flows.training.evaluation_curve import list_points
from tailforge.flows.training.evaluation_inputs import read_inputs
from tailforge.schemas.prices import Prices
from tailforge.schemas.tables import EVALUATION_RUNS
from tailforge.tasks.methods.evaluation.arms import list_plain_arms
from tailforge.tasks.stages.trials import RealData, Trial
from tests.flows.conftest import Command
from tests.support.stopped_commands import start_command
from tests.support.tiny_evaluations import ask, save
from tests.support.tiny_library import save_resnet
from tests.support.tiny_shapes import FEW_STEPS, SHAPES, draw_shape, publish_shapes, write_real

WORDS = [
    word
    for key, value in FEW_STEPS.items()
    for word in (
        f"--{key.replace('_', '-')}",
        ",".join(map(str, value)) if isinstance(value, tuple) else str(value),
    )
]


def test_a_version_with_the_missing_class_gains(place: Path, made: dict[str, Any]) -> None:
    assert made["baseline"] in ("real", "balanced", "augmented", "copies")
    (gain,) = [each for each in made["gains"] if each["arm"] == "mixed"]
    assert gain["gain_tail"]["verdict"] == "gain"
    assert gain["gain_tail"]["low"] > 0.5
    arms = {each["arm"]: each for each in made["arms"]}
    assert arms["real"]["scores"][1] == {"class": "dot", "value": 0.0, "low": 0.0, "high": 0.0}
    assert arms["mixed"]["tail"]["value"] > 0.8
    assert [len(each["chosen"]) for each in made["arms"]] == [2] * 6
    assert sum(map(sum, arms["mixed"]["confusion"])) == 2 * 30
    assert made["verdict"].startswith("the version helps: recall of rare classes +")


def test_the_record_its_runs_and_its_page_are_beside_the_version(place: Path, made: dict[str, Any]) -> None:
    record = json.loads(Path(made["files"]["record"]).read_text())
    assert record["verdict"] == made["verdict"]
    assert "test images were read once" in record["choices"]
    table = pq.read_table(made["files"]["runs"])
    assert table.schema.equals(EVALUATION_RUNS)
    rows = table.to_pylist()
    assert {row["chosen"] for row in rows if row["arm"] == "mixed"} == {True, False}
    assert all((row["macro"] is not None) == row["chosen"] for row in rows)
    page = Path(made["files"]["page"]).read_text()
    assert made["verdict"] in page.replace("&#39;", "'")
    assert page.count("<svg") == 4
    assert "http" not in page.replace("http-equiv", "")


def test_arms_with_a_version_take_the_augmentation_that_real_images_prefer(made: dict[str, Any]) -> None:
    rows = pq.read_table(made["files"]["runs"]).to_pylist()
    settings: dict[str, list[str]] = {}
    for row in rows:
        settings.setdefault(row["arm"], []).append(row["setting"])

    # Both augmentations on the first seed, the better one on the second seed too.
    first = [row for row in rows if row["arm"] == "augmented" and row["seed"] == 0]
    assert len(first) == 2
    best = max(first, key=lambda row: row["validation_macro"])["setting"]
    (other,) = {row["setting"] for row in first} - {best}
    assert sorted(settings["augmented"]) == sorted([best, best, other])

    # The version's arms have it too. At the best share the default one is tried as well, unless it is the best.
    default = best == "padding 2"
    told = "" if default else f", {best}"
    assert settings["alone"] == 2 * [best if told else ""]
    assert settings["mixed"][:4] == [f"share {share}{told}" for share in ("0.5", "0.5", "1", "1")]
    assert len(settings["mixed"]) == (4 if default else 6)
    assert all(each.partition(",")[2] == "" for each in settings["mixed"][4:])
    assert [dose["share"] for dose in made["doses"]] == [0.5, 1.0]


def test_report_card_and_croissant_are_copied_with_the_result(
    place: Path, made: dict[str, Any], command: Command, tmp_path: Path
) -> None:
    store, folder = place / "store", place / "store" / "evaluations" / "shapes" / "1.0.0"
    told = made["verdict"][:1].upper() + made["verdict"][1:]
    assert told in (folder / "README.md").read_text()
    assert told in json.loads((folder / "croissant.json").read_text())["subjectOf"]["abstract"]
    assert (folder / "report" / "images" / "1.png").read_bytes() == b"picture"
    page = (folder / "report" / "index.html").read_text()
    assert page.startswith("<html>")
    assert made["verdict"].partition(": ")[2] in page

    # The published bytes are as they were.
    assert (store / "datasets" / "shapes" / "1.0.0" / "report" / "index.html").read_bytes() == b"<html>"
    assert command("verify", "shapes", "--store", store)[0] == 0
    assert command("report", "shapes", "--store", store)[1] == f"{folder}/report/index.html\n"
    code, _, err = command("export", "shapes", "--store", store, "--format", "huggingface", "--out", tmp_path / "hub")
    assert code == 0, err
    assert told in (tmp_path / "hub" / "README.md").read_text()


def test_a_version_of_noise_gains_nothing(place: Path, made: dict[str, Any], command: Command) -> None:
    prices = ["--machine-price", "3600"]
    code, out, err = command("evaluate", "noise", "--store", place / "store", "--real", place / "real", *prices, *WORDS)
    assert code == 0, err
    told = re.search(
        r"making noise@1\.0\.0 took a time that is not recorded, training took .* \(price ([0-9.]+)\)", out
    )
    assert told is not None
    _, shown, _ = command("show", "noise", "--store", place / "store", "--json")
    cost = json.loads(shown)["cost"]
    assert cost["price_of_training"] == pytest.approx(cost["trained_in_s"], abs=0.06)  # one unit of money per second
    assert float(told[1]) == pytest.approx(cost["price_of_training"], abs=0.01)
    assert "verdict: no difference is shown" in out.replace("\n", " ")
    _, out, _ = command("show", "noise", "--store", place / "store", "--json")
    assert json.loads(out)["evaluated"].startswith("no difference is shown")
    _, out, _ = command("show", "shapes", "--store", place / "store", "--json")
    assert json.loads(out)["evaluated"] == made["verdict"]


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_ends_in_equal_bytes(place: Path, made: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(place / "store" / "datasets", tmp_path / "store" / "datasets")
    trials = tmp_path / "store" / "artifacts" / "trials"

    def receipts() -> list[Path]:
        return sorted(trials.glob("*/[!.]*.json"))

    words = ["evaluate", "shapes", "--store", tmp_path / "store", "--real", place / "real", "--workers", "1", *WORDS]
    started = start_command(*words)
    started.wait_for(lambda: len(receipts()) > 2)
    started.process.kill()
    started.end()
    kept = {path: path.stat().st_mtime_ns for path in receipts()}

    again = evaluate_version(ask(tmp_path, "shapes", place / "real"), 1)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for name in ("record", "runs"):
        assert Path(again["files"][name]).read_bytes() == Path(made["files"][name]).read_bytes()

    # The test images were read by the chosen settings only.
    tested = (tmp_path / "store" / "artifacts" / "evaluations").glob("*/[!.]*.json")
    labels = {json.loads(path.read_text())["label"] for path in tested}
    chosen = {", ".join(filter(None, (each["arm"], each["setting"]))) for each in again["arms"]}
    assert {label.rpartition(", seed ")[0] for label in labels} <= chosen
    assert any(label.startswith("mixed") for label in labels)


def test_photographs_elsewhere_make_equal_artifacts(
    place: Path, made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(place / "store" / "datasets", tmp_path / "store" / "datasets")
    shutil.copytree(place / "real", tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    again = evaluate_version(ask(tmp_path, "shapes", Path("real")), 2)
    assert Path(again["files"]["record"]).read_bytes() == Path(made["files"]["record"]).read_bytes()

    # No artifact names the folders of this machine.
    def read_tests(folder: Path) -> dict[str, bytes]:
        tests = (folder / "store" / "artifacts" / "evaluations").glob("*/*.parquet")
        return {path.parent.name: path.read_bytes() for path in tests}

    found = read_tests(tmp_path)
    assert found
    assert found == {name: read_tests(place)[name] for name in found}


def test_classes_of_other_names_are_matched_by_a_pair(place: Path, tmp_path: Path) -> None:
    real = shutil.copytree(place / "real", tmp_path / "real")
    for split in ("validation", "test"):
        (real / split / "dot").rename(real / split / "Spot 2")
    with pytest.raises(
        Exception, match=r"shows 'dot', which is no class of the real images: Spot 2, bar, stripe; name"
    ):
        read_inputs(ask(place, "shapes", real))
    found = read_inputs(ask(place, "shapes", real, renamed={"dot": "spot 2"}))
    assert found.classes.names[found.classes.rare[0]] == "Spot 2"
    assert set(found.synthetic["shapes@1.0.0"].examples.targets.tolist()) == set(found.classes.rare)


QUICK = {"steps": 8, "shares": (0.5,)}
COUNTS_OF_CURVE = {
    "train": {"bar": 24, "stripe": 24, "dot": 4},
    "validation": dict.fromkeys(SHAPES, 8),
    "test": dict.fromkeys(SHAPES, 10),
}


def test_a_learning_curve_tells_how_many_real_images_the_version_is_worth(
    place: Path, tmp_path: Path, command: Command
) -> None:
    real = write_real(tmp_path / "real", COUNTS_OF_CURVE)

    # Held back: 40 further dots, one that is a training image, and a class that is not rare.
    for number in range(40):
        save(draw_shape("dot", 80_000 + number)[..., 0], tmp_path / "more" / "dot" / f"{number}.png")
    shutil.copy(real / "train" / "dot" / "000.png", tmp_path / "more" / "dot" / "known.png")
    save(draw_shape("bar", 80_000)[..., 0], tmp_path / "more" / "bar" / "0.png")
    asked = ask(place, "shapes", real, held_back=str(tmp_path / "more"), settings=QUICK | {"learning_curve": True})
    made = evaluate_version(asked, 2)
    exchange = made["exchange"]
    assert [point["images"] for point in exchange["points"]] == [4, 9, 14, 24, 44]
    assert (exchange["images"], exchange["synthetic"]) == (4, 30)  # the version's training images
    assert (exchange["worth"]["last"], exchange["worth"]["extrapolated"]) == (40, False)
    assert exchange["points"][0]["tail"]["value"] == next(
        each["tail"]["value"] for each in made["arms"] if each["arm"] == made["baseline"]
    )

    # The line that people read: in the verdict, on the page, in `show`.
    told = re.search(
        r"100 synthetic images are worth (more than )?[0-9.]+ real images of rare classes", made["verdict"]
    )
    assert told is not None
    assert Path(made["files"]["page"]).read_text().count(told[0]) >= 1
    _, out, _ = command("show", "shapes", "--store", place / "store", "--json")
    assert json.loads(out)["evaluated"] == made["verdict"]
    rows = [row for row in pq.read_table(made["files"]["runs"]).to_pylist() if row["arm"] == "curve"]
    assert len(rows) == 4 * 2
    assert made["costs"]["training"]["curve"]["runs"] == 4 * 2


def test_without_held_back_images_the_curve_has_fewer(place: Path, tmp_path: Path) -> None:
    real = write_real(tmp_path / "real", COUNTS_OF_CURVE)
    inputs = read_inputs(ask(place, "shapes", real, settings={"learning_curve": True}))
    data = RealData(inputs.classes.names, *(inputs.real[split].examples for split in ("train", "validation")), (1,))
    points = list_points(inputs, Trial(list_plain_arms()[0], 3, inputs.fit, inputs.model, data, {}))
    assert [point.learnt.counts for point in points] == [(24, 1, 24), (24, 2, 24)]
    assert points[0].digest != points[1].digest != data.digest
    assert (points[1].learnt.shown == points[1].shown).all()


def test_a_held_back_image_that_is_in_the_test_split_is_named(place: Path, tmp_path: Path) -> None:
    real = write_real(tmp_path / "real", COUNTS_OF_CURVE)
    save(draw_shape("dot", 2000)[..., 0], tmp_path / "more" / "dot" / "0.png", compress_level=1)  # test/dot/000.png
    found = read_inputs(ask(place, "shapes", real, held_back=str(tmp_path / "more"), settings={"learning_curve": True}))
    (leak,) = found.leaks
    assert (Path(leak.name).name, leak.how, leak.kind) == ("000.png", "near twin", "held-back image")


def test_money_is_known_only_with_every_price_that_it_needs() -> None:
    assert price_seconds(Prices(2.0, 1.0), 1800, 900) == 0.5 + 0.5
    assert price_seconds(Prices(None, 1.0), 1800, 0) == 0.5
    assert price_seconds(Prices(None, 1.0), 1800, 900) is None
    assert price_seconds(Prices(2.0, None), 1800, 900) is None


def test_trainings_that_arms_share_are_paid_once(made: dict[str, Any]) -> None:
    costs = made["costs"]
    of_arms = sum(each["seconds"] for each in costs["training"].values())
    assert 0 < costs["training_seconds"] < of_arms  # `balanced` and `augmented` share the default augmentation


def flat(real: Path) -> None:
    for shape in ("bar", "stripe"):
        shutil.move(real / "train" / shape, real / shape)
    for split in ("train", "validation", "test"):
        shutil.rmtree(real / split, ignore_errors=True)


@pytest.mark.parametrize(
    ("shape", "asked", "found"),
    [
        ((16, 16), {}, ((16, 16), "exact")),
        ((96, 96), {}, ((16, 16), "crop")),
        ((96, 72), {}, ((16, 16), "stretch")),
        ((96, 96), {"size": (32, 24)}, ((32, 24), "stretch")),
        ((96, 72), {"fit": "crop"}, ((16, 16), "crop")),
        ((32, 48), {}, ((48, 32), "stretch")),
    ],
)
def test_photographs_of_any_size_are_brought_to_one(
    shape: tuple[int, int],
    asked: dict[str, Any],
    found: tuple[tuple[int, int], str],
    place: Path,
    tmp_path: Path,
) -> None:
    real = shutil.copytree(place / "real", tmp_path / "real")
    for file in real.rglob("*.png"):
        with Image.open(file) as image:
            image.resize(shape).save(file)
    inputs = read_inputs(ask(place, "shapes", real, **asked))
    assert (inputs.format.size, inputs.format.fit) == found


MISTAKES: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "no splits": (flat, [], "has no splits, train, validation and test are needed; put the images into"),
    "no validation": (
        lambda real: shutil.rmtree(real / "validation"),
        [],
        "has no split validation, it has: test, train",
    ),
    "no test image of a class": (
        lambda real: shutil.rmtree(real / "test" / "dot"),
        [],
        "has no image of the class dot",
    ),
    "segmentation without masks": (lambda real: None, ["--task", "segmentation"], "has no mask, which segmentation"),
    "another task": (lambda real: None, ["--task", "detection"], "--task: "),
    "names without end": (lambda real: None, ["--mask-classes", "a,,b"], "--mask-classes 'a,,b': give different"),
    "no rare class": (lambda real: None, ["--few", "0", "--class", "dot=bar"], "holds no image of a rare class"),
    "large": (lambda real: None, ["--size", "400x400"], "does not read images of 400 x 400 pixels"),
    "another size": (lambda real: None, ["--size", "32x32", "--fit", "exact"], "say fit crop, pad or stretch"),
    "a size of words": (lambda real: None, ["--size", "small"], "--size 'small': give height and width"),
    "an unknown model": (
        lambda real: None,
        ["--model", "resnet-huge"],
        "'resnet-huge' is not a directory",
    ),
    "a model without its commit": (lambda real: None, ["--model", "owner/name"], "--model owner/name@COMMIT"),
    "one seed": (lambda real: None, ["--seeds", "1"], "--seeds: "),
    "shares of words": (lambda real: None, ["--shares", "half"], "--shares 'half'"),
    "falling shares": (lambda real: None, ["--shares", "0.5,0.25"], "shares are rising and different"),
    "a share above 1": (lambda real: None, ["--shares", "1.5"], "--shares"),
    "a pair without a sign": (lambda real: None, ["--class", "dot"], "--class 'dot': give the version's class"),
    "itself as rival": (lambda real: None, ["--against", "shapes@1.0.0"], "this version is named twice"),
    "an unknown rival": (lambda real: None, ["--against", "squares"], "has no dataset 'squares'"),
    "held-back images without a curve": (
        lambda real: None,
        ["--held-back", "more"],
        "--held-back has no effect without --learning-curve",
    ),
    "nothing to leave out": (lambda real: None, ["--learning-curve"], "so there are none to leave out; give further"),
    "held-back images of other classes": (
        lambda real: shutil.copytree(real / "train", real.parent / "more"),
        ["--learning-curve", "--held-back", "{real.parent}/more"],
        "holds no image of a rare class that is not among the real images, the rare classes are: dot",
    ),
    "checks beyond the steps": (lambda real: None, ["--checks", "90"], "checks 90 exceed the steps"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_error_before_any_training(
    place: Path, command: Command, tmp_path: Path, mistake: str
) -> None:
    spoil, words, told = MISTAKES[mistake]
    real = shutil.copytree(place / "real", tmp_path / "real")
    spoil(real)
    words = [word.format(real=real) for word in words]
    code, _, err = command("evaluate", "shapes", "--store", place / "store", "--real", real, *WORDS, *words)
    assert code == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1


def test_a_model_of_transformers_is_trained_and_named_without_its_folder(place: Path, tmp_path: Path) -> None:
    folder = save_resnet(tmp_path / "tiny-resnet")
    settings = {"model": str(folder), "steps": 16, "learning_rate": None, "batch": None, "shares": (0.5,)}
    tuned = evaluate_version(ask(place, "shapes", settings=settings), 2)
    chosen = tuned["settings"]
    assert (chosen["model"], chosen["digest"]) == ("tiny-resnet", digest_model(folder))
    assert (chosen["optimizer"], chosen["batch"], chosen["from_scratch"]) == ("adamw", 32, False)
    assert tuned["images"] == {"height": 16, "width": 16, "channels": 3, "fit": "exact"}
    assert str(tmp_path) not in Path(tuned["files"]["record"]).read_text()
    scratch = read_inputs(ask(place, "shapes", settings=settings | {"from_scratch": True}))
    assert scratch.fit.from_scratch
    assert scratch.fit.learning_rate > chosen["learning_rate"]


def test_a_version_that_was_never_evaluated_says_so(place: Path, tmp_path: Path, command: Command) -> None:
    publish_shapes(Store.open(str(tmp_path / "store"), create=True))
    _, out, _ = command("show", "shapes", "--store", tmp_path / "store")
    assert "not evaluated" in out
