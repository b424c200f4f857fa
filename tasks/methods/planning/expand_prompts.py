"""Expand a concept into prompts: templates filled with words and attribute values, and texts of a language model.

Template, words and attributes are the columns of one balanced design (balance_rows.py). Of T templates, template i
fills rows i, i + T, i + 2T, ... and keeps new texts. The design depends on the number of templates and not on their
words, so a changed template leaves the prompts of the others unchanged. All choices are ours.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import Prompt, Slot
from tailforge.schemas.recipe import Concept, Recipe
from tailforge.schemas.settings.fields import look
from tailforge.schemas.settings.prompts import SLOT
from tailforge.tasks.methods.planning.balance_rows import Rows, balance_rows
from tailforge.tasks.methods.planning.samples import derive_seed

Lexicon = Callable[[str], Sequence[str]]  # word -> its synonyms
Draft = tuple[str, tuple[Slot, ...]]  # a text and its filled slots
Complete = Callable[[str, int, int], Sequence[str]]  # instruction, count, seed -> continuations

LANGUAGE_MODEL = "language_model"
MAX_ROWS_FACTOR = 8  # most rows of the design per requested prompt

# Words that begin with a vowel letter but a consonant sound, and the reverse, and letters and numbers: an M8, a U-bolt.
_CONSONANT = r"uni(?!n|m)|us[aeiu]|ut[eio]|eu|ewe|one\b|once\b|u\b"
_VOWEL = r"hour|honest|honou?r|heir|[fhlmnrsx]\d*\b|8|11\b|18\b"
_AN = re.compile(rf"(?:{_VOWEL})|(?!{_CONSONANT})[aeiou]", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_LIST_MARK = re.compile(r"^(?:[\s\"'*•–-]|\d+[.)])+")


@dataclass(frozen=True)
class _Column:
    """A column of the design: the name of a slot, its values and their weights."""

    name: str
    values: tuple[str, ...]
    weights: tuple[float, ...]


def expand_prompts(
    recipe: Recipe, concept: Concept, *, lexicon: Lexicon | None = None, complete: Complete | None = None
) -> list[Prompt]:
    """Return the prompts of one concept, at most `prompts.per_concept`, by rising `prompt_index`.

    Of S sources, source s owns the indices s, s + S and so on. So the first n prompts are balanced over the sources.
    An index stays free if its source has no new text left or repeats a text of another source; letter case and spaces
    do not count. Apart from such repeats, no source's prompts depend on another source. `lexicon` adds words for the
    concept. `complete` writes texts if the recipe names a language model. Errors: RecipeError if no prompt is left.
    """
    # Words and sources, and the number of prompts of each source.
    words = collect_words(recipe, concept, lexicon)
    templates = recipe.prompts.templates if concept.templates is None else concept.templates
    expander = recipe.prompts.language_model
    sources = len(templates) + (expander is not None)
    shares = [len(range(source, recipe.prompts.per_concept, sources)) for source in range(sources)]

    # Texts per source, before repeats across sources are known.
    drafts = {
        f"template:{i}": texts for i, texts in enumerate(_fill_templates(recipe, concept, templates, words, shares))
    }
    if expander is not None and complete is not None:
        instruction = expander.instruction.replace("{concept}", concept.name)
        written = complete(instruction, expander.count, _seed(recipe, concept, LANGUAGE_MODEL))
        drafts[LANGUAGE_MODEL] = _distinct(_accept_sentences(written, words))[: shares[-1]]

    # Number the texts, and drop repeats.
    prompts = list(_interleave(drafts, sources))
    if not prompts:
        lost = f", and no text of the language model holds one of the words {', '.join(words)}" if expander else ""
        raise RecipeError(
            f"concept {concept.name!r} has no prompts: its list of templates is empty{lost}; add a template with "
            "{concept} to it, or leave the list out to use those of prompts.templates"
        )
    return prompts


def collect_words(recipe: Recipe, concept: Concept, lexicon: Lexicon | None = None) -> list[str]:
    """Return the words for a concept: its name, its synonyms, then words of both lexicons. Each word occurs once."""
    # The recipe's own lexicon comes before `lexicon`.
    listed = [words for name, words in recipe.prompts.lexicon.items() if look(name) == look(concept.name)]
    found = [concept.name, *concept.synonyms, *(word for words in listed for word in words)]
    found += lexicon(concept.name) if lexicon else ()

    # Words that differ in letter case or spaces are one word.
    distinct: dict[str, str] = {}
    for word in found:
        distinct.setdefault(_normalise(word), " ".join(word.split()))
    return [word for word in distinct.values() if word]


def fill_template(template: str, values: Mapping[str, str]) -> Draft:
    """Return the filled text and its slots with their character spans, in order. {a} becomes a or an and is no slot."""
    # Literals stand at even positions, names of slots at odd ones. Fill from the right: {a} depends on the next word.
    pieces = SLOT.split(template)
    text, found = "", []
    for position in reversed(range(len(pieces))):
        name = pieces[position] if position % 2 else None
        piece = pieces[position] if name is None else indefinite_article(text) if name == "a" else values[name]
        text = piece + text
        if name not in (None, "a"):
            found.append((str(name), piece, len(text)))

    # Turn distances from the text's end into character positions.
    spans = ((name, value, len(text) - from_end) for name, value, from_end in reversed(found))
    return text, tuple(
        Slot(name=name, value=value, start=start, end=start + len(value)) for name, value, start in spans
    )


def indefinite_article(text: str) -> str:
    """Return `a` or `an`, by the spelling of the first word of `text` and some exceptions of English."""
    word = _WORD.search(text)
    return "an" if word and _AN.match(word.group()) else "a"


def _fill_templates(
    recipe: Recipe, concept: Concept, templates: Sequence[str], words: Sequence[str], shares: Sequence[int]
) -> list[list[Draft]]:
    """Return the distinct texts of each template, at most its share."""
    if not templates:
        return []

    # A template cannot have more texts than combinations of its slots' values.
    columns = [_Column("concept", tuple(words), (1.0,) * len(words)), *_attribute_columns(recipe)]
    sizes = {column.name: len(column.values) for column in columns}
    possible = [prod(sizes[name] for name in set(SLOT.findall(template)) - {"a"}) for template in templates]
    wanted = [min(share, most) for share, most in zip(shares, possible, strict=False)]

    # Rows that differ only in slots a template lacks repeat its text, so design more rows until the texts suffice.
    weights = [(1.0,) * len(templates), *(column.weights for column in columns)]
    count = len(templates) * max(wanted)
    limit = max(MAX_ROWS_FACTOR * count, 64)
    while True:
        rows = balance_rows(weights, count, _seed(recipe, concept, "prompts"))
        filled = [
            _distinct(_fill_rows(template, columns, rows[index :: len(templates)]))[: wanted[index]]
            for index, template in enumerate(templates)
        ]
        if count >= limit or [len(texts) for texts in filled] == wanted:
            return filled
        count = min(2 * count, limit)


def _fill_rows(template: str, columns: Sequence[_Column], rows: Rows) -> Iterator[Draft]:
    # Column 0 is the template itself.
    for row in rows:
        values = {column.name: column.values[value] for column, value in zip(columns, row[1:], strict=True)}
        yield fill_template(template, values)


def _attribute_columns(recipe: Recipe) -> list[_Column]:
    # The weights of the recipe count only if its balance is weighted.
    columns = []
    for name, values in recipe.prompts.attributes.items():
        weights = dict(values) if isinstance(values, Mapping) else dict.fromkeys(values, 1.0)
        weighted = recipe.prompts.balance == "weighted"
        columns.append(_Column(name, tuple(weights), tuple(w if weighted else 1.0 for w in weights.values())))
    return columns


def _accept_sentences(written: Sequence[str], words: Sequence[str]) -> Iterator[Draft]:
    """Yield the first sentence of each text that contains a word. The first such word of the list is its slot."""
    for text in written:
        # The first line with letters, without list marks, quotes and repeated spaces.
        line = next((line for line in text.splitlines() if _WORD.search(line)), "")
        sentence = " ".join(_SENTENCE_END.split(_LIST_MARK.sub("", line), maxsplit=1)[0].split()).strip("\"' ")

        # Whole words only.
        spans = (re.search(rf"(?<!\w){re.escape(word)}(?!\w)", sentence, re.IGNORECASE) for word in words)
        if found := next(filter(None, spans), None):
            yield sentence, (Slot(name="concept", value=found.group(), start=found.start(), end=found.end()),)


def _distinct(texts: Iterator[Draft]) -> list[Draft]:
    kept: dict[str, Draft] = {}
    for text, slots in texts:
        kept.setdefault(_normalise(text), (text, slots))
    return list(kept.values())


def _interleave(drafts: Mapping[str, Sequence[Draft]], sources: int) -> Iterator[Prompt]:
    """Yield the sources' texts in turn, without repeats."""
    # Text k of source s has the index k * S + s.
    numbered = [
        (rank * sources + number, source, *draft)
        for number, (source, texts) in enumerate(drafts.items())
        for rank, draft in enumerate(texts)
    ]

    # The first of two equal texts keeps its index.
    seen = set()
    for index, source, text, slots in sorted(numbered, key=lambda entry: entry[0]):
        if _normalise(text) not in seen:
            seen.add(_normalise(text))
            yield Prompt(prompt_index=index, source=source, text=text, slots=slots)


def _normalise(text: str) -> str:
    return " ".join(text.lower().split())


def _seed(recipe: Recipe, concept: Concept, purpose: str) -> int:
    return derive_seed(f"{recipe.seed}\x1f{concept.name}", purpose)
