import numpy as np
import pytest

from tailforge.tasks.methods.embedded.captions import SYNONYMS, UNSAID, Wording, draw_captions, every_word
from tailforge.tasks.methods.workshop import MATERIALS, PARTS, SURFACES

PLAIN = Wording(other_template=0.0, synonym=0.0, no_material=0.0, no_surface=0.0)
GEAR = np.array([[PARTS.index("gear"), MATERIALS.index("brass"), SURFACES.index("wooden bench")]], dtype=np.int16)


def draw(wording: Wording, aliases: dict[str, dict[str, float]] | None = None, seed: int = 0) -> tuple[str, list[int]]:
    texts, claims = draw_captions(GEAR, wording, np.random.default_rng(seed), aliases)
    return texts[0], claims[0].tolist()


def test_plain_caption() -> None:
    assert draw(PLAIN) == ("a photo of a brass gear on a wooden bench", GEAR[0].tolist())


@pytest.mark.parametrize(
    ("change", "text", "claim"),
    [
        ({"no_material": 1.0}, "a photo of a gear on a wooden bench", [0, UNSAID, 0]),
        ({"no_surface": 1.0}, "a photo of a brass gear", [0, 1, UNSAID]),
    ],
)
def test_left_out_attributes_are_not_claimed(change: dict[str, float], text: str, claim: list[int]) -> None:
    assert draw(PLAIN._replace(**change)) == (text, claim)


def test_part_left_out_has_no_name() -> None:
    text, claim = draw(PLAIN._replace(no_part=1.0))
    assert "gear" not in text
    assert claim[0] == UNSAID


def test_synonym_takes_its_article() -> None:
    labels = np.array([[PARTS.index("bracket"), 0, 0]] * 40, dtype=np.int16)
    wording = PLAIN._replace(synonym=1.0, no_material=1.0)
    texts, _ = draw_captions(labels, wording, np.random.default_rng(0))
    assert {text.split(" on ")[0] for text in texts} == {"a photo of an angle bracket", "a photo of a corner brace"}


def test_alias_names_another_part_as_often_as_asked() -> None:
    called = [draw(PLAIN, {"gear": {"pulley": 0.25}}, seed)[1][0] for seed in range(400)]
    assert set(called) == {PARTS.index("gear"), PARTS.index("pulley")}
    assert np.mean([part == PARTS.index("pulley") for part in called]) == pytest.approx(0.25, abs=0.07)


def test_every_word_of_a_caption_is_known_to_the_tokenizer_texts() -> None:
    known = {word for text in every_word() for word in text.split()}
    labels = np.array([[part, part % 6, part % 5] for part in range(12)] * 20, dtype=np.int16)
    wording = Wording(other_template=0.5, synonym=0.5, no_material=0.2, no_surface=0.2, no_part=0.2)
    texts, _ = draw_captions(labels, wording, np.random.default_rng(3))
    assert {word for text in texts for word in text.split()} <= known


def test_synonyms_are_of_one_part_only() -> None:
    words = [word for synonyms in SYNONYMS.values() for word in synonyms] + list(PARTS)
    assert len(words) == len(set(words))
    assert set(SYNONYMS) == set(PARTS)
