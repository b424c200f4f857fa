import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from tailforge.tasks.methods.embedded.captions import UNSAID, every_word
from tailforge.tasks.methods.embedded.clip import (
    classify_zero_shot,
    contrastive_loss,
    find_true_pairs,
    tokenize,
    train_clip,
    train_tokenizer,
    tune_image_tower,
)
from tests.support.tiny_training import plain_pictures, tiny_settings

TOKENIZER = train_tokenizer(every_word(), 700, 24)


def test_words_of_the_world_are_single_tokens() -> None:
    assert TOKENIZER.tokenize("a brass gear") == ["a</w>", "brass</w>", "gear</w>"]


@settings(max_examples=50)
@given(st.text(st.characters(codec="utf-8", categories=("Ll", "Nd", "Lo")), min_size=1, max_size=12))
def test_every_text_can_be_written_and_read_back(text: str) -> None:
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.unk_token_id not in ids
    normal = TOKENIZER.backend_tokenizer.normalizer.normalize_str(text)
    assert TOKENIZER.decode(ids).replace(" ", "") == normal.replace(" ", "")


def test_tokenizer_directory_is_a_clip_tokenizer(tmp_path) -> None:  # type: ignore[no-untyped-def]
    TOKENIZER.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert again.model_max_length == 24
    texts = ["a photo of a hook on a concrete floor", "Zürich!"]
    assert torch.equal(tokenize(again, texts), tokenize(TOKENIZER, texts))


def test_long_prompts_are_cut_and_short_ones_padded() -> None:
    ids = tokenize(TOKENIZER, ["gear", "gear " * 60])
    assert ids.shape == (2, 24)
    assert ids[1, -1] == ids[0, -1] == TOKENIZER.eos_token_id
    assert ids[0, 0] == TOKENIZER.bos_token_id


def test_captions_hold_for_all_pictures_they_do_not_contradict() -> None:
    labels = np.array([[0, 1, 2], [0, 3, 2], [4, 1, 2]], dtype=np.int16)
    claims = np.array([[0, UNSAID, 2], [UNSAID, 1, UNSAID]], dtype=np.int16)
    assert find_true_pairs(labels, claims).tolist() == [[True, True, False], [True, False, True]]


def test_loss_is_least_where_true_pairs_score_alike_and_high() -> None:
    true = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    good = contrastive_loss(torch.where(true, 20.0, -20.0), true)
    assert good.item() == pytest.approx(2 / 3 * np.log(2), abs=1e-4)
    torn = torch.where(true, 20.0, -20.0)
    torn[0, 1] = -20.0
    assert contrastive_loss(torn, true) > good


def test_image_tower_learns_and_text_tower_stays() -> None:
    images, _, labels = plain_pictures(64)
    recipe = tiny_settings(clip__steps=1, clip__image_steps=30)
    model = train_clip(images, labels, TOKENIZER, recipe.clip, 0, None, lambda learner, loss: None)
    text = {key: value.clone() for key, value in model.text_model.state_dict().items()}
    picture = model.visual_projection.weight.clone()
    tune_image_tower(model, images, labels, TOKENIZER, recipe.clip, 1, None, lambda learner, loss: None)
    assert all(torch.equal(text[key], value) for key, value in model.text_model.state_dict().items())
    assert not torch.equal(picture, model.visual_projection.weight)


def test_zero_shot_names_a_text_for_each_picture() -> None:
    images, _, labels = plain_pictures(10)
    recipe = tiny_settings(clip__steps=1)
    model = train_clip(images, labels, TOKENIZER, recipe.clip, 0, None, lambda learner, loss: None)
    found = classify_zero_shot(model, TOKENIZER, images, ["a gear", "a bolt", "a hook"])
    assert found.shape == (10,)
    assert set(found.tolist()) <= {0, 1, 2}
