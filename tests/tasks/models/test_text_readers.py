"""How much of a prompt each kind of generator reads, by its tokenizers alone, and that this is what it draws from."""

from pathlib import Path
from typing import Any

import pytest

from tailforge.schemas.jobs import Prompt, ResolvedModel, Slot
from tailforge.tasks.models.text_readers import load_readers, reads_all, reads_concept
from tailforge.tasks.models.text_to_image import open_generator
from tests.support.tiny_flows import build_flux, build_sd3
from tests.support.tiny_generators import build_sd, build_sdxl

# 16 tokens of CLIP, two of which mark start and end: the last of `FAR` words are cut off.
FAR = "a photo of a bench " + "on a wooden bench " * 5 + "and a gear"
TORN = "a photo of a wooden bench on a wooden bench on a q gear on"  # the q is the 13th word, the gear the 14th


def prompt(text: str, word: str = "gear") -> Prompt:
    start = text.rindex(word)
    slot = Slot(name="concept", value=word, start=start, end=start + len(word))
    return Prompt(prompt_index=0, source="template:0", text=text, slots=(slot,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("readers")
    pipelines: dict[str, Any] = {
        "sd": build_sd(),
        "sdxl": build_sdxl(),
        "sd3": build_sd3(),
        "clip_only": build_sd3(t5=False),
        "flux": build_flux(),
    }
    for name, pipeline in pipelines.items():
        pipeline.save_pretrained(home / name)
    return home


def model(folder: Path, name: str) -> ResolvedModel:
    return ResolvedModel(path=str(folder / name), digest=name)


@pytest.mark.parametrize(
    ("name", "reads_far"), [("sd", False), ("sdxl", False), ("sd3", True), ("clip_only", False), ("flux", True)]
)
def test_a_concept_is_read_if_one_encoder_with_tokens_reaches_it(folder: Path, name: str, reads_far: bool) -> None:
    readers = load_readers(model(folder, name))
    assert reads_concept(readers, prompt("a photo of a gear"))
    assert reads_all(readers, "a photo of a gear")
    assert reads_concept(readers, prompt(FAR)) is reads_far
    assert reads_all(readers, FAR) is reads_far


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "clip_only", "flux"])
def test_the_loaded_generator_reads_what_its_tokenizers_say(folder: Path, name: str) -> None:
    import torch

    readers = load_readers(model(folder, name))
    generator = open_generator(model(folder, name), torch.device("cpu"))
    for text in (FAR, TORN, "a gear", "a photo of a wooden bench on a wooden bench on a photo gear"):
        (slot,) = prompt(text).slots
        located = generator.locate_tokens(text, [(slot.end - 1, slot.end)])[0]
        assert bool(located) is reads_concept(readers, prompt(text)), text


def test_a_word_that_is_cut_in_its_middle_is_not_read(folder: Path) -> None:
    readers = load_readers(model(folder, "sd"))
    text = "a photo of a wooden bench on a wooden bench on a photo gear"  # 13 words, then g-e-a-r is one token: 14
    assert reads_concept(readers, prompt(text))
    spelt = text.replace("photo gear", "photo xyz")  # three tokens, of which one fits
    assert not reads_concept(readers, prompt(spelt, "xyz"))


def test_a_hub_model_is_asked_when_it_draws() -> None:
    assert load_readers(ResolvedModel(path="owner/name", revision="0" * 40, digest="hub")) == ()
    assert reads_concept((), prompt(FAR))
