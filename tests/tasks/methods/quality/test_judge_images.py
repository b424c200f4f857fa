"""Verdicts: the order of the checks, one reason each, and CLIP only for what the cheap gates leave."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tailforge.schemas.settings.gates import GATES, Gate
from tailforge.tasks.methods.packing.png import encode_png
from tailforge.tasks.methods.quality.clip_scores import cut_square
from tailforge.tasks.methods.quality.judge_images import CHUNK, Item, judge_images
from tailforge.tasks.methods.quality.pixel_scores import perceptual_hash

CONCEPTS = ("gear", "hook", "iron nut")


class ColourScorer:
    """A scorer whose images are their mean colour, and whose texts are the colour of the word they hold."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.texts: list[str] = []

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.seen.append(len(images))
        means = np.stack([image.mean((0, 1)) for image in images])
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += texts
        return np.stack(
            [np.eye(3, dtype=np.float32)[next(i for i, name in enumerate(CONCEPTS) if name in text)] for text in texts]
        )


def picture(red: int, green: int, blue: int) -> NDArray[np.uint8]:
    """A coarse chessboard of that colour and black."""
    board = np.indices((16, 16)).sum(0)[..., None] // 4 % 2
    return (board * np.array([red, green, blue])).astype(np.uint8)


def item(image: NDArray[np.uint8] | None, area: float = 0.2, confidence: float = 0.8, caption: str = "a gear") -> Item:
    return Item(
        "0" * 16,
        caption,
        None if image is None else encode_png(image),
        "lost" if image is None else None,
        area,
        confidence,
    )


GEAR, HOOK = picture(250, 10, 10), picture(10, 250, 10)


def judge(
    items: list[Item], gates: Mapping[str, Gate] | None = None, scorer: ColourScorer | None = None
) -> list[dict[str, object]]:
    return judge_images(items, gates or {}, "gear", CONCEPTS, scorer)


def test_scores_are_those_of_the_image_and_its_texts() -> None:
    scorer = ColourScorer()
    first, second = judge([item(GEAR), item(HOOK, caption="a hook")], scorer=scorer)
    assert first["clip_score"] == pytest.approx(250 / np.hypot(250, np.hypot(10, 10)))
    assert first["concept_margin"] == pytest.approx(240 / np.hypot(250, np.hypot(10, 10)))
    assert second["concept_margin"] == pytest.approx(-240 / np.hypot(250, np.hypot(10, 10)))
    assert second["clip_score"] == first["clip_score"]
    assert first["phash"] == perceptual_hash(GEAR)
    assert first["mask_area"] == float(np.float32(0.2))
    assert (first["accepted"], first["reason"], first["status"], first["error"]) == (True, None, "ok", None)
    assert scorer.texts == ["a gear", "a hook", "a photo of a gear", "a photo of a hook", "a photo of an iron nut"]


def test_a_failed_sample_stays_a_row_without_scores() -> None:
    (row,) = judge([item(None)], {"contrast": Gate(min=0.1)}, ColourScorer())
    assert (row["status"], row["error"], row["reason"], row["accepted"]) == ("failed", "lost", "failed", False)
    assert all(row[name] is None for name in (*GATES, "phash"))


def test_checks_come_in_order_and_give_one_reason() -> None:
    gates = {
        "mask_confidence": Gate(min=0.5), "mask_area": Gate(min=0.1, max=0.5), "concept_margin": Gate(min=0.0),
        "clip_score": Gate(min=0.5), "brightness": Gate(min=0.05),
    }  # fmt: skip
    dark, blank = picture(20, 5, 5), np.full((16, 16, 3), 255, np.uint8)
    cases = [
        (item(None), "failed"), (item(blank, area=0.0), "blank"), (item(dark, area=0.0), "brightness_low"),
        (item(HOOK, area=0.0), "clip_score_low"), (item(HOOK, area=0.0, caption="a hook"), "concept_margin_low"),
        (item(GEAR, area=0.0, confidence=0.0), "mask_area_low"), (item(GEAR, area=0.6), "mask_area_high"),
        (item(GEAR, confidence=0.1), "mask_confidence_low"), (item(GEAR), None),
    ]  # fmt: skip
    rows = judge([case for case, _ in cases], gates, ColourScorer())
    assert [row["reason"] for row in rows] == [reason for _, reason in cases]
    assert [row["accepted"] for row in rows] == [reason is None for _, reason in cases]


def test_clip_sees_only_what_the_cheap_gates_leave() -> None:
    scorer = ColourScorer()
    blank = np.zeros((16, 16, 3), np.uint8)
    rows = judge([item(GEAR), item(blank), item(None), item(HOOK)], scorer=scorer)
    assert scorer.seen == [2]
    assert [row["clip_score"] is None for row in rows] == [False, True, True, False]


def test_without_scorer_there_are_no_clip_scores() -> None:
    (row,) = judge([item(GEAR)])
    assert row["clip_score"] is row["concept_margin"] is None
    assert row["accepted"]


def test_a_single_concept_has_no_margin_and_passes_its_gate() -> None:
    rows = judge_images([item(GEAR)], {"concept_margin": Gate(min=0.5)}, "gear", ["gear"], ColourScorer())
    assert rows[0]["concept_margin"] is None
    assert rows[0]["accepted"]


def test_a_teachers_word_and_a_verifiers_look_are_gates_like_the_others() -> None:
    seen: list[int] = []

    def redness(images: Sequence[NDArray[np.uint8]]) -> list[float]:
        seen.append(len(images))
        return [float(image[..., 0].max() / 255) for image in images]

    gates = {"teacher_agreement": Gate(min=0.5), "verifier_agreement": Gate(min=0.5), "mask_area": Gate(min=0.1)}
    blank = np.zeros((16, 16, 3), np.uint8)
    cases = [
        (replace(item(GEAR), teacher_agreement=0.9), None),
        (replace(item(GEAR), teacher_agreement=0.1), "teacher_agreement_low"),
        (replace(item(HOOK, area=0.0), teacher_agreement=0.9), "verifier_agreement_low"),
        (replace(item(GEAR, area=0.0), teacher_agreement=0.9), "mask_area_low"),
        (replace(item(blank), teacher_agreement=0.9), "blank"),
    ]
    rows = judge_images([case for case, _ in cases], gates, "gear", CONCEPTS, None, None, redness)
    assert [row["reason"] for row in rows] == [reason for _, reason in cases]
    assert seen == [4]
    assert rows[0]["teacher_agreement"] == np.float32(0.9)
    assert rows[0]["verifier_agreement"] == np.float32(250 / 255)
    assert rows[4]["verifier_agreement"] is None


def test_verdicts_do_not_depend_on_the_company() -> None:
    items = [item(GEAR if index % 3 else HOOK, area=index / 100) for index in range(CHUNK + 9)]
    assert judge(items, scorer=ColourScorer()) == [judge([one], scorer=ColourScorer())[0] for one in items]


def test_quantile_gates_wait_for_the_whole_build() -> None:
    assert judge([item(GEAR)], {"sharpness": Gate(min_quantile=1.0)})[0]["accepted"]


def test_the_crop_is_scored_for_what_the_box_holds() -> None:
    both = np.concatenate([GEAR, HOOK], axis=1)  # a gear on the left, a hook on the right
    left, right = ([x, 2.0, 12.0, 12.0] for x in (2.0, 18.0))
    boxed = [replace(item(both), box=left), replace(item(both), box=right), item(both)]
    scores = [row["crop_score"] for row in judge(boxed, None, ColourScorer())]
    assert scores[0] > 0.99
    assert scores[1] < 0.2
    assert scores[2] is None
    gated = judge(boxed, {"crop_score": Gate(min=0.5)}, ColourScorer())
    assert [row["reason"] for row in gated] == [None, "crop_score_low", None]


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ([10, 10, 10, 10], (9, 21), (9, 21)),
        ([0, 12, 4, 10], (11, 23), (0, 8)),
        ([28, 30, 4, 2], (29, 32), (28, 32)),
        ([0, 0, 32, 32], (0, 32), (0, 32)),
    ],
)
def test_a_crop_is_square_but_for_the_image_border(
    box: list[float], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    image = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    assert np.array_equal(cut_square(image, box), image[slice(*rows), slice(*columns)])
