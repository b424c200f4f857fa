"""Places in words: the block after cropping, one true sentence drawn by confidence, no false negatives."""

from collections import Counter

import numpy as np
import pytest
import torch

from tailforge.schemas.training.pretraining import CaptionSettings
from tailforge.tasks.methods.pretraining.caption import (
    build_caption,
    caption_loss,
    fit_tokenizer,
    sentence_loss,
    train_caption,
)
from tailforge.tasks.methods.pretraining.positions import (
    AWAY,
    locate_blocks,
    place_nouns,
    say,
    say_everywhere,
    shorten,
    speak,
)
from tailforge.tasks.methods.pretraining.regions import ABSENT, split_masks
from tailforge.tasks.methods.pretraining.words import name_all, share_words, word_loss

TINY = CaptionSettings(
    steps=3, batch=4, patch_px=8, width=16, layers=1, heads=2, text_width=16, text_layers=1, projection=8,
    vocabulary=600,
)  # fmt: skip
NAMES = ("gear", "hex nut")


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("rows", "columns", "block"),
    [
        (slice(0, 2), slice(0, 2), 0),
        (slice(0, 3), slice(6, 9), 2),
        (slice(4, 5), slice(4, 5), 4),
        (slice(0, 9), slice(0, 9), 4),
        (slice(3, 6), slice(0, 1), 3),
        (slice(8, 9), slice(8, 9), 8),
        (slice(0, 0), slice(0, 0), AWAY),
    ],
)
def test_the_block_is_that_of_the_centroid(rows: slice, columns: slice, block: int) -> None:
    area = np.zeros((1, 1, 9, 9), bool)
    area[0, 0, rows, columns] = True
    assert locate_blocks(area).tolist() == [[block]]


def test_a_block_of_an_image_that_three_does_not_divide() -> None:
    areas = np.zeros((3, 1, 64, 64), bool)
    for number, (row, column) in enumerate([(21, 21), (22, 42), (63, 43)]):
        areas[number, 0, row, column] = True
    # a third of 64 pixels is 21.33, and a pixel's centre is half a pixel on
    assert locate_blocks(areas).ravel().tolist() == [4, 4, 8]


def test_a_region_that_is_cropped_away_or_absent_is_not_spoken_of() -> None:
    areas = np.zeros((2, 2, 9, 9), bool)
    areas[0, 0, 0, 0] = areas[0, 1, 8, 4] = areas[1, 1, 4, 4] = True
    nouns = np.array([[1, 2], [1, ABSENT]])
    areas[1, 1] = False
    scores = np.array([[0.5, 1.0], [1.0, 1.0]], np.float32)
    placed = place_nouns(areas, nouns, scores, NAMES)
    assert placed == [{"the block 0 has a gear": 0.5, "the block 7 has a hex nut": 1.0}, {}]


def test_a_region_is_drawn_in_proportion_to_its_confidence() -> None:
    placed = [{say(0, "gear"): 0.25, say(7, "hex nut"): 0.75}] * 4000
    texts = Counter(speak(["a photo"] * 4000, placed, NAMES, draws()).texts)
    assert set(texts) == {"a photo. the block 0 has a gear", "a photo. the block 7 has a hex nut"}
    assert texts["a photo. the block 0 has a gear"] / 4000 == pytest.approx(0.25, abs=0.03)


def test_texts_are_true_of_every_image_that_they_hold_for() -> None:
    captions = ["a gear", "a gear", "a gear", "a nut"]
    placed = [{say(4, "gear"): 1.0}, {say(4, "gear"): 1.0}, {}, {say(4, "gear"): 1.0}]
    spoken = speak(captions, placed, NAMES, draws())
    assert spoken.texts == [
        "a gear. the block 4 has a gear",
        "a gear. the block 4 has a gear",
        "a gear",
        "a nut. the block 4 has a gear",
    ]
    assert spoken.true.int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    assert spoken.sentences == say_everywhere(NAMES)
    assert spoken.targets.shape == (4, 18)
    assert spoken.targets.sum(1).tolist() == [1, 1, 0, 1]
    assert spoken.targets[0, spoken.sentences.index(say(4, "gear"))] == 1


def test_the_sentences_loss_is_that_of_the_formula() -> None:
    scores = torch.tensor([[1.0, 2.0, 0.5], [0.0, 1.0, 3.0]], dtype=torch.float64)
    targets = torch.tensor([[0.5, 0.0, 0.25], [0.0, 0.8, 0.0]], dtype=torch.float64)
    logs = scores.log_softmax(1)
    first = -(2 / 3 * logs[0, 0] + 1 / 3 * logs[0, 2]) * 0.5
    second = -logs[1, 1] * 0.8
    assert sentence_loss(scores, targets).item() == pytest.approx(((first + second) / 2).item(), rel=1e-12)


def test_long_captions_leave_room_for_the_sentence() -> None:
    long = " ".join(f"word{number}" for number in range(60))
    assert len(shorten(long).split()) == 22
    tokenizer = fit_tokenizer([shorten(long), "a gear"], NAMES, 600)
    texts = [f"{shorten(long)}. {say(8, 'hex nut')}", "a gear"]
    ids = tokenizer(texts, truncation=True)["input_ids"]
    assert max(map(len, ids)) == min(tokenizer.model_max_length, 77)


def test_images_without_a_region_in_view_have_no_sentence_to_choose() -> None:
    tokenizer = fit_tokenizer(["a gear", "a nut"], NAMES, 600)
    model = build_caption(TINY, tokenizer, 16)
    pooled = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    spoken = speak(["a gear", "a nut"], [{}, {}], NAMES, draws())
    assert torch.equal(
        caption_loss(model, tokenizer, pooled, spoken, 0.0), caption_loss(model, tokenizer, pooled, spoken, 9.0)
    )
    placed = [{say(4, "gear"): 1.0}, {}]
    one = speak(["a gear", "a nut"], placed, NAMES, draws())
    weights = (0.0, 1.0, 2.0)
    found = [caption_loss(model, tokenizer, pooled, one, weight).item() for weight in weights]
    assert found[2] - found[1] == pytest.approx(found[1] - found[0], rel=1e-4)
    assert found[1] > found[0]


def test_without_regions_images_find_their_captions_alone() -> None:
    pixels = draws().integers(0, 256, (8, 16, 16, 3), np.uint8)
    captions = [f"a photo of part {number}" for number in range(8)]

    def losses(weight: float) -> torch.Tensor:
        settings = TINY.model_copy(update={"position_weight": weight, "word_weight": weight})
        return train_caption(pixels, captions, NAMES, None, settings, None, lambda *_: None)[1]

    assert torch.equal(losses(0.0), losses(3.0))
    regions = split_masks([np.tile(np.array([[1, 0]], np.uint8), (16, 8))] * 8, {1}, [{}] * 8)
    said = train_caption(pixels, captions, NAMES, regions, TINY, None, lambda *_: None)[1]
    assert not torch.equal(said, losses(1.0))


def test_a_patch_shares_the_words_of_its_regions() -> None:
    shares = torch.tensor([[[0.5, 0.0], [0.5, 0.75], [0.0, 0.25]], [[1.0, 0.5], [0.0, 0.25], [0.0, 0.0]]])
    nouns = np.array([[0, 2, 5], [0, 5, ABSENT]])
    shown = share_words(shares, nouns, np.array([2, 5]))
    first = [[0.5, 0.5, 0.0], [0.0, 0.75, 0.25]]
    second = [[1.0, 0.0, 0.0], [0.5, 0.0, 0.25]]  # a quarter of its last patch is ignored
    assert shown.tolist() == [first, second]
    assert len(name_all(NAMES)) == shown.shape[2]


def test_the_words_loss_is_that_of_the_formula() -> None:
    scores = torch.tensor([[[1.0, 2.0], [0.5, 0.0]], [[0.0, 1.0], [3.0, 1.0]]], dtype=torch.float64)
    shown = torch.tensor([[[1.0, 0.0], [0.25, 0.5]], [[0.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    logs = scores.log_softmax(2)
    first = -(logs[0, 0, 0] + 0.25 * logs[0, 1, 0] + 0.5 * logs[0, 1, 1]) / 2
    second = -logs[1, 0, 1] / 2
    sure = torch.tensor([0.8, 0.5], dtype=torch.float64)
    assert word_loss(scores, shown, sure).item() == pytest.approx(((0.8 * first + 0.5 * second) / 2).item(), rel=1e-12)


def test_patches_learn_from_the_words_alone_too() -> None:
    pixels = draws().integers(0, 256, (8, 16, 16, 3), np.uint8)
    regions = split_masks([np.tile(np.array([[1, 0]], np.uint8), (16, 8))] * 8, {1}, [{}] * 8)

    def tokens(weight: float) -> torch.Tensor:
        settings = TINY.model_copy(update={"position_weight": 0.0, "word_weight": weight})
        model, _, _ = train_caption(pixels, ["a gear"] * 8, NAMES, regions, settings, None, lambda *_: None)
        return model.vision_model(pixel_values=torch.ones(1, 3, 16, 16)).last_hidden_state[:, 1:]

    assert not torch.allclose(tokens(0.0), tokens(1.0))
