"""README, tutorials and how-tos are written in short sentences."""

from pathlib import Path
from statistics import median

import pytest

from tests.support.prose import count_words, sentences_of
from tests.support.repository import ROOT

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "tutorials").glob("*.md")),
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
]
MEDIAN, LONGEST = 20, 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sentences_are_short(page: Path) -> None:
    sentences = sentences_of(page)
    assert not [each for each in sentences if count_words(each) > LONGEST]
    assert median(map(count_words, sentences)) <= MEDIAN


def test_code_tables_and_headings_are_no_sentences(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title\n\nOne, `two three`. Four [five](a/b.md)\nsix.\n\n| a | b |\n\n```\nno.\n```\n- item\n")
    assert sentences_of(page) == ["One, Code.", "Four five six.", "- item"]
    assert [count_words(each) for each in sentences_of(page)] == [2, 3, 1]
