"""WordNet: synonyms from an installed edition, and how its absence is reported."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import wn
import wn._db

from tailforge.schemas.errors import RecipeError
from tailforge.tasks.models.lexicon import load_wordnet
from tests.support.kept_models import forget_all

LMF = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE LexicalResource SYSTEM "http://globalwordnet.github.io/schemas/WN-LMF-1.1.dtd">
<LexicalResource xmlns:dc="https://globalwordnet.github.io/schemas/dc/">
  <Lexicon id="oewn" label="tiny" language="en" email="nobody@example.org" license="CC-BY-4.0" version="2024">
    <LexicalEntry id="oewn-gear-n"><Lemma writtenForm="gear" partOfSpeech="n"/>
      <Sense id="oewn-gear-1" synset="oewn-1-n"/><Sense id="oewn-gear-2" synset="oewn-2-n"/></LexicalEntry>
    <LexicalEntry id="oewn-cog-n"><Lemma writtenForm="cog wheel" partOfSpeech="n"/>
      <Sense id="oewn-cog-1" synset="oewn-1-n"/></LexicalEntry>
    <LexicalEntry id="oewn-kit-n"><Lemma writtenForm="kit" partOfSpeech="n"/>
      <Sense id="oewn-kit-1" synset="oewn-2-n"/></LexicalEntry>
    <LexicalEntry id="oewn-gear-v"><Lemma writtenForm="gear" partOfSpeech="v"/>
      <Sense id="oewn-gear-v-1" synset="oewn-3-v"/></LexicalEntry>
    <Synset id="oewn-1-n" ili="" partOfSpeech="n"/>
    <Synset id="oewn-2-n" ili="" partOfSpeech="n"/>
    <Synset id="oewn-3-v" ili="" partOfSpeech="v"/>
  </Lexicon>
</LexicalResource>
"""


@pytest.fixture(autouse=True)
def _own_database(tmp_path: Path) -> Iterator[None]:
    before = wn.config.database_path.parent, wn.config.allow_multithreading
    forget_all()
    wn.config.data_directory, wn.config.allow_multithreading = tmp_path / "data", True
    yield
    wn._db.clear_connections()
    forget_all()
    wn.config.data_directory, wn.config.allow_multithreading = before


def install(tmp_path: Path, text: str = LMF) -> None:
    (tmp_path / "tiny.xml").write_text(text)
    wn.add(tmp_path / "tiny.xml", progress_handler=None)


def test_first_noun_sense_gives_the_words(tmp_path: Path) -> None:
    install(tmp_path)
    synonyms = load_wordnet()
    assert synonyms("gear") == ["cog wheel"]
    assert synonyms("cog wheel") == ["gear"]
    assert synonyms("spanner") == []


def test_other_threads_may_ask(tmp_path: Path) -> None:
    install(tmp_path)
    found: list[list[str]] = []
    load_wordnet()
    thread = threading.Thread(target=lambda: found.append(load_wordnet()("gear")))
    thread.start()
    thread.join()
    assert found == [["cog wheel"]]


def test_absent_data_is_reported_and_no_database_is_made(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"wn download oewn:2024.*prompts\.lexicon"):
        load_wordnet()
    assert not (tmp_path / "data").exists()


def test_another_edition_does_not_do(tmp_path: Path) -> None:
    install(tmp_path, LMF.replace('version="2024"', 'version="2021"'))
    with pytest.raises(RecipeError, match="oewn:2024"):
        load_wordnet()
