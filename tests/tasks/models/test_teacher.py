"""Teacher adapter: transformers folders and plain torch modules, their own preparation, and every way to be wrong."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tailforge.schemas.errors import ModelError, RecipeError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.settings.inversion import TeacherSource
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tailforge.tasks.models.teacher import Teacher, load_teacher, load_verifier
from tests.support.kept_models import forget_all
from tests.support.tiny_teachers import SharedActivation

NAMES = ["gear", "hook, crook", "ring", "plate"]
PROCESSOR: dict[str, Any] = {
    "do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3],
}  # fmt: skip
CODE = """
from torch import nn


def build(width=4, classes=3):
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def count():
    return 3


def broken():
    raise OSError("no disk")
"""


@pytest.fixture(autouse=True)
def _no_kept_models() -> None:
    forget_all()


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "resnet"
    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(NAMES)), "label2id": {name: place for place, name in enumerate(NAMES)}}
    config = ResNetConfig(embedding_size=4, hidden_sizes=[6, 8], depths=[1, 1], layer_type="basic", **names)
    ResNetForImageClassification(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A folder with weights of a grey teacher; its code lies beside it."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (tmp_path / "code_of_mine.py").write_text(CODE)
    namespace: dict[str, Any] = {}
    exec(CODE, namespace)
    torch.manual_seed(0)
    save_file(namespace["build"](6, 3).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps({"arguments": {"width": 6}, "id2label": {"0": "a", "1": "b", "2": "c"}})
    )
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.13], "image_std": [0.31], "size": [12, 10]})
    )
    return folder


def load(folder: Path, **changes: Any) -> Teacher:
    source = TeacherSource(model=str(folder), **changes)
    return load_teacher(ResolvedModel(path=str(folder), digest=str(folder)), source, folder.parent)


def load_plain(folder: Path, attribute: str = "build", **changes: Any) -> Teacher:
    return load(folder, module=f"code_of_mine:{attribute}", **changes)


def changed(folder: Path, target: Path, file: str, **changes: Any) -> Path:
    shutil.copytree(folder, target)
    value = json.loads((target / file).read_text()) | changes
    (target / file).write_text(json.dumps({key: item for key, item in value.items() if item is not None}))
    return target


def test_a_transformers_model_with_its_own_preparation(resnet: Path) -> None:
    teacher = load(resnet)
    assert teacher.class_names == tuple(NAMES)
    assert (teacher.mean, teacher.std, teacher.size) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), (32, 32))
    assert teacher.channels == 3
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    prepared = ViTImageProcessorPil(**PROCESSOR)([Image.fromarray(one, "RGB") for one in pixels], return_tensors="pt")
    ours = PixelScale(teacher.mean, teacher.std, torch.device("cpu")).from_pixels(pixels)
    torch.testing.assert_close(ours, prepared.pixel_values)
    with torch.no_grad():
        expected = ResNetForImageClassification.from_pretrained(resnet).eval()(prepared.pixel_values).logits
        torch.testing.assert_close(teacher.logits(ours), expected)
    assert not teacher.module.training
    assert not any(weight.requires_grad for weight in teacher.module.parameters())


def test_a_plain_module_with_its_own_preparation(plain: Path) -> None:
    teacher = load_plain(plain)
    assert (teacher.mean, teacher.std, teacher.size, teacher.channels) == ((0.13,), (0.31,), (12, 10), 1)
    assert teacher.class_names == ("a", "b", "c")
    assert teacher.logits(torch.zeros(5, 1, 12, 10)).shape == (5, 3)


def test_a_plain_module_on_the_python_path_with_the_preparation_of_the_recipe(tmp_path: Path) -> None:
    save_file(SharedActivation().state_dict(), tmp_path / "model.safetensors")
    teacher = load(
        tmp_path, module="tests.support.tiny_teachers:SharedActivation", mean=(0.1,), std=(0.3,), size=(8, 8)
    )
    assert teacher.class_names == tuple(str(label) for label in range(10))
    assert teacher.size == (8, 8)


def test_the_recipe_comes_first(resnet: Path) -> None:
    teacher = load(resnet, mean=(0, 0, 0), std=(1, 1, 1), size=(64, 48), class_names=("p", "q", "r", "s"))
    assert (teacher.mean, teacher.size, teacher.class_names) == ((0, 0, 0), (64, 48), ("p", "q", "r", "s"))


@pytest.mark.parametrize(
    ("changes", "mean", "size"),
    [
        ({"do_normalize": False}, (0.0, 0.0, 0.0), (32, 32)),
        ({"do_rescale": False, "image_mean": [51, 102, 153]}, (0.2, 0.4, 0.6), (32, 32)),
        ({"size": {"shortest_edge": 48}}, (0.5, 0.4, 0.3), (48, 48)),
        ({"size": {"shortest_edge": 48}, "crop_size": {"height": 40, "width": 36}}, (0.5, 0.4, 0.3), (40, 36)),
        ({"crop_size": 40, "do_center_crop": False}, (0.5, 0.4, 0.3), (32, 32)),
    ],
)
def test_what_preprocessor_config_can_say(
    resnet: Path, tmp_path: Path, changes: dict[str, Any], mean: tuple[float, ...], size: tuple[int, int]
) -> None:
    teacher = load(changed(resnet, tmp_path / "changed", "preprocessor_config.json", **changes))
    assert teacher.mean == pytest.approx(mean)
    assert teacher.size == size


def test_a_teacher_is_loaded_once(resnet: Path) -> None:
    assert load(resnet) is load(resnet)


@pytest.mark.parametrize(("name", "label"), [("gear", 0), ("  Ring ", 2), ("hook, crook", 1), ("crook", 1)])
def test_classes_are_found_by_name(resnet: Path, name: str, label: int) -> None:
    assert load(resnet).label(name) == label


def test_labels_that_the_teacher_does_not_have(resnet: Path) -> None:
    with pytest.raises(RecipeError, match=r"no class 'rings'; closest: ring; it has 4: gear, hook, crook, ring, plate"):
        load(resnet).label("rings")
    twice = load(resnet, class_names=("a, x", "b, x", "c", "d"))
    with pytest.raises(RecipeError, match="name of 2 of the classifier's classes"):
        twice.label("x")


def test_a_number_that_is_no_name_is_a_place(resnet: Path) -> None:
    teacher = load(resnet)
    assert [teacher.label(name) for name in ("0", " 3 ")] == [0, 3]
    with pytest.raises(RecipeError, match=r"no class '4'; .*gear.*; name one, or give its place, 0 to 3"):
        teacher.label("4")
    with pytest.raises(RecipeError, match="no class '0'"):
        teacher.label("0", by_place=False)
    numbered = load(resnet, class_names=("1", "2", "3", "4"))
    assert numbered.label("1") == 0
    with pytest.raises(RecipeError, match="no class '0'"):
        numbered.label("0")


def test_changed_code_builds_another_teacher(plain: Path) -> None:
    code = plain.parent / "code_of_mine.py"

    def activation(digest: str) -> torch.nn.Module:
        source = TeacherSource(model=str(plain), module="code_of_mine:build")
        module = load_teacher(ResolvedModel(path=str(plain), digest=digest), source, plain.parent).module
        return list(module)[2]  # type: ignore[call-overload, no-any-return]

    assert isinstance(activation("one"), torch.nn.ReLU)
    code.write_text(CODE.replace("nn.ReLU()", "nn.SiLU()"))
    assert isinstance(activation("two"), torch.nn.SiLU)


def test_a_vit_is_refused_by_name(tmp_path: Path) -> None:
    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=16,
                       patch_size=8)  # fmt: skip
    ViTForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"ViTForImageClassification has 0 BatchNorm layers.*ResNet"):
        load(tmp_path)


def test_folders_that_are_no_teacher(resnet: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        load(tmp_path)
    with pytest.raises(ModelError, match="names no model_type"):
        load(changed(resnet, tmp_path / "typeless", "config.json", model_type=None))
    with pytest.raises(ModelError, match="is not a directory"):
        load(tmp_path / "nowhere")


def test_broken_weights_are_named(resnet: Path, plain: Path, tmp_path: Path) -> None:
    for folder in (shutil.copytree(resnet, tmp_path / "cut"), plain):
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-8])
        with pytest.raises(ModelError, match=r"model\.safetensors is \d+ bytes long"):
            load(folder) if folder != plain else load_plain(folder)
    (plain / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"is missing; copy .*, or save the weights of a torch module of your own"):
        load_plain(plain)
    (plain / "model.pt").touch()
    with pytest.raises(ModelError, match=r"pickle \(model\.pt\).*safetensors\.torch\.save_file\(module"):
        load_plain(plain)


def test_weights_of_another_module(plain: Path) -> None:
    (plain / "config.json").write_text('{"arguments": {"width": 7}}')
    with pytest.raises(ModelError, match="do not fit the Sequential"):
        load_plain(plain)
    (plain / "config.json").write_text("{}")
    layers = {f"layer.{place}": torch.zeros(1) for place in range(9)}
    save_file(layers, plain / "model.safetensors")
    with pytest.raises(ModelError, match=r"it lacks [^;]*; the module has no layer\.0, .*layer\.3, and 5 more; save"):
        load_plain(plain)


def test_classes_without_names_say_how_to_name_them(plain: Path) -> None:
    (plain / "config.json").write_text('{"arguments": {"width": 6}}')
    found = load_plain(plain)
    assert found.label("2") == 2
    with pytest.raises(
        RecipeError, match=r"3 classes have no names.*0 to 2; .*id2label in .*config\.json or by generator\.class_names"
    ):
        found.label("gear")


@pytest.mark.parametrize(
    "table", [{"0": "a", "1": None, "2": "c"}, {"0": "a", "2": "b", "3": "c"}, {"0": "a", "1": " ", "2": "c"}, [1], {}]
)
def test_a_class_without_a_name_is_no_class_called_none(plain: Path, table: Any) -> None:
    (plain / "config.json").write_text(json.dumps({"arguments": {"width": 6}, "id2label": table}))
    with pytest.raises(ModelError, match=r"id2label must name every class by its number, from 0"):
        load_plain(plain)


def test_an_option_has_no_keys_of_a_recipe(plain: Path) -> None:
    source = TeacherSource(model=str(plain), module="code_of_mine:build", mean=(0, 0, 0), std=(1, 1, 1))
    model = ResolvedModel(path=str(plain), digest="option")
    with pytest.raises(ModelError, match=r"3 channels and .*check image_mean, image_std and size in preprocessor_con"):
        load_verifier(model, source, plain.parent, "--teacher")


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("absent", "cannot be imported"),
        ("count", "returns a int"),
        ("nn", "is a module"),
        ("broken", r"with no arguments failed.*no disk.*under `arguments` in"),
    ],
)
def test_code_that_builds_no_module(plain: Path, attribute: str, message: str) -> None:
    (plain / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=message):
        load_plain(plain, attribute)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("subprocess:check_call", "is of Python itself"),
        ("tests.support.tiny_teachers:TinyTeacher", "is no torch module and no function"),
        ("torch:cos", "is no torch module and no function"),
    ],
)
def test_only_torch_modules_are_built(plain: Path, path: str, message: str) -> None:
    (plain / "config.json").write_text('{"arguments": {"args": "true"}}')
    with pytest.raises(ModelError, match=message):
        load(plain, module=path)


def test_preparations_that_do_not_fit(resnet: Path, plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="1 means, 3 deviations and 3 channels"):
        load(resnet, mean=(0.5,))
    with pytest.raises(ModelError, match=r"fails on images of 3 channels and 12 x 10 pixels.*generator\.mean"):
        load_plain(plain, mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ModelError, match="2 names, the classifier has 4 classes"):
        load(resnet, class_names=("a", "b"))
    sizeless = changed(resnet, tmp_path / "sizeless", "preprocessor_config.json", size=None)
    with pytest.raises(ModelError, match=r"does not give the size.*generator\.size"):
        load(sizeless)


@pytest.mark.parametrize("module", ["net", ":build", "a:b:c", "os;x:y"])
def test_module_is_a_dotted_path_and_a_name(module: str) -> None:
    with pytest.raises(ValueError, match="module"):
        TeacherSource(model="x", module=module)
