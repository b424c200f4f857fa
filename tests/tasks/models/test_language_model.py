"""Language models: seeded, independent continuations from a real (tiny, random) GPT-2 directory, and clear refusals."""

import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tailforge.schemas.errors import ModelError, RecipeError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.tasks.models.language_model import load_language_model
from tests.support.kept_models import forget_all

TEXTS = ["a photo of a brass gear on a bench", "a steel hook", "one copper spring lies on green paper"]
CONTEXT = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpt2")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(path)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=2,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(path)
    return path


@pytest.fixture(autouse=True)
def _no_kept_models() -> None:
    forget_all()


def resolve(folder: Path) -> ResolvedModel:
    return ResolvedModel(path=str(folder), digest="0")


def test_same_seed_same_texts_other_seed_other_texts(folder: Path) -> None:
    model = load_language_model(resolve(folder))
    first = model.complete("a photo of", 5, 1, max_new_tokens=8)
    assert first == model.complete("a photo of", 5, 1, max_new_tokens=8)
    assert first != model.complete("a photo of", 5, 2, max_new_tokens=8)
    assert len(first) == 5
    assert len(set(first)) > 1


def test_a_text_does_not_depend_on_how_many_are_asked_for(folder: Path) -> None:
    model = load_language_model(resolve(folder))
    assert model.complete("a photo of", 40, 3, max_new_tokens=6)[:2] == model.complete(
        "a photo of", 2, 3, max_new_tokens=6
    )


def test_global_random_state_plays_no_part(folder: Path) -> None:
    model = load_language_model(resolve(folder))
    torch.manual_seed(1)
    first = model.complete("a photo of", 3, 1, max_new_tokens=6)
    torch.manual_seed(2)
    assert model.complete("a photo of", 3, 1, max_new_tokens=6) == first


def test_cold_sampling_follows_the_likeliest_token(folder: Path) -> None:
    model = load_language_model(resolve(folder))
    greedy = GPT2LMHeadModel.from_pretrained(folder).generate(
        model.tokenizer("a photo of", return_tensors="pt").input_ids,
        attention_mask=model.tokenizer("a photo of", return_tensors="pt").attention_mask,
        max_new_tokens=6, do_sample=False, pad_token_id=0,
    )  # fmt: skip
    expected = model.tokenizer.decode(greedy[0], skip_special_tokens=True).removeprefix("a photo of")
    assert set(model.complete("a photo of", 3, 1, max_new_tokens=6, temperature=1e-6)) == {expected}


def test_generation_ends_at_the_context_and_refuses_what_does_not_fit(folder: Path) -> None:
    model = load_language_model(resolve(folder))
    assert len(model.complete("a photo", 2, 1, max_new_tokens=256)) == 2
    with pytest.raises(RecipeError, match=r"instruction has \d+ tokens"):
        model.complete("xyz " * 40, 1, 1)


def test_model_is_loaded_once(folder: Path) -> None:
    assert load_language_model(resolve(folder)) is load_language_model(resolve(folder))


def test_missing_and_broken_files_are_named(folder: Path, tmp_path: Path) -> None:
    for name, damage in {
        "config.json": lambda path: path.unlink(),
        "model.safetensors": lambda path: path.write_bytes(path.read_bytes()[:-10]),
        "tokenizer.json": lambda path: path.write_text("{"),
    }.items():
        broken = tmp_path / name
        shutil.copytree(folder, broken)
        damage(broken / name)
        with pytest.raises(ModelError, match=name if name != "tokenizer.json" else r"tokenizer\.json"):
            load_language_model(resolve(broken))


def test_weights_of_another_shape_are_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    config = (other / "config.json").read_text().replace('"n_embd": 16', '"n_embd": 32')
    (other / "config.json").write_text(config)
    with pytest.raises(ModelError, match=r"prompts\.language_model"):
        load_language_model(resolve(other))


def test_neither_directory_nor_pinned_hub_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a directory"):
        load_language_model(ResolvedModel(path=str(tmp_path / "nowhere"), digest="1"))


def test_hub_model_that_cannot_be_fetched_is_named() -> None:
    with pytest.raises(ModelError, match="owner/name@0000"):
        load_language_model(ResolvedModel(path="owner/name", revision="0" * 40, digest="2"))
