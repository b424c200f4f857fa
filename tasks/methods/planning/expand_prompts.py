"""Prompt expansion: templates times attribute values times words for the concept, and prompts of a language model.

Template, words and attributes are the columns of one balanced design (balance_rows.py); template i takes rows i,
i + T, i + 2T, ... and keeps those that give a new text. The design knows how many templates there are, not what they
say: another wording of one template leaves the prompts of the others as they are. All choices are ours.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import Prompt, Slot
from tailforge.schemas.recipe import SLOT, Concept, Recipe
from tailforge.schemas.settings.fields import look
from tailforge.tasks.methods.planning.balance_rows import Rows, balance_rows
from tailforge.tasks.methods.planning.samples import derive_seed

Lexicon = Callable[[str], Sequence[str]]  # word -> more words for it
Draft = tuple[str, tuple[Slot, ...]]
Complete = Callable[[str, int, int], Sequence[str]]  # text, count, seed -> continuations

LANGUAGE_MODEL = "language_model"
MAX_ROWS_FACTOR = 8  # rows of the design that are looked through for new texts, over prompts asked for

# Vowel letters that sound like consonants, consonants that do not, and names of letters and numbers: an M8, a U-bolt.
_CONSONANT = r"uni(?!n|m)|us[aeiu]|ut[eio]|eu|ewe|one\b|once\b|u\b"
_VOWEL = r"hour|honest|honou?r|heir|[fhlmnrsx]\d*\b|8|11\b|18\b"
_AN = re.compile(rf"(?:{_VOWEL})|(?!{_CONSONANT})[aeiou]", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_LIST_MARK = re.compile(r"^(?:[\s\"'*•–-]|\d+[.)])+")


@dataclass(frozen=True)
class _Column:
    """A slot of the design: its values and how often each shall occur."""

    name: str
    values: tuple[str, ...]
    weights: tuple[float, ...]


def expand_prompts(
    recipe: Recipe, concept: Concept, *, lexicon: Lexicon | None = None, complete: Complete | None = None
) -> list[Prompt]:
    """Prompts of one concept, at most `prompts.per_concept`, in rising `prompt_index`.

    Sources take turns: of S sources, the one of number s owns the indices s, s + S, ...; where it runs out of new texts
    or repeats one of another source (letter case and spaces apart), its indices are left out. So the first n prompts
    are balanced over the sources, and no source's prompts depend on another's, except for such repeats.
    `lexicon` gives more words for the concept, `complete` is asked when the recipe names a language model.
    Errors: RecipeError if no prompt is left.
    """
    words = collect_words(recipe, concept, lexicon)
    templates = recipe.prompts.templates if concept.templates is None else concept.templates
    expander = recipe.prompts.language_model
    sources = len(templates) + (expander is not None)
    shares = [len(range(source, recipe.prompts.per_concept, sources)) for source in range(sources)]
    drafts = {
        f"template:{i}": texts for i, texts in enumerate(_fill_templates(recipe, concept, templates, words, shares))
    }
    if expander is not None and complete is not None:
        instruction = expander.instruction.replace("{concept}", concept.name)
        written = complete(instruction, expander.count, _seed(recipe, concept, LANGUAGE_MODEL))
        drafts[LANGUAGE_MODEL] = _distinct(_accept_sentences(written, words))[: shares[-1]]
    prompts = list(_interleave(drafts, sources))
    if not prompts:
        lost = f", and no text of the language model holds one of the words {', '.join(words)}" if expander else ""
        raise RecipeError(
            f"concept {concept.name!r} has no prompts: its list of templates is empty{lost}; add a template with "
            "{concept} to it, or leave the list out to use those of prompts.templates"
        )
    return prompts


def collect_words(recipe: Recipe, concept: Concept, lexicon: Lexicon | None = None) -> list[str]:
    """Words for a concept: its name, synonyms, the recipe's lexicon, the given lexicon; each once."""
    listed = [words for name, words in recipe.prompts.lexicon.items() if look(name) == look(concept.name)]
    found = [concept.name, *concept.synonyms, *(word for words in listed for word in words)]
    found += lexicon(concept.name) if lexicon else ()
    distinct: dict[str, str] = {}
    for word in found:
        distinct.setdefault(_normalise(word), " ".join(word.split()))
    return [word for word in distinct.values() if word]


def fill_template(template: str, values: Mapping[str, str]) -> Draft:
    """Text and the character spans of its slots, in order of the text. {a} becomes a or an and is no slot."""
    pieces = SLOT.split(template)  # literal, name, literal, name, ..., literal
    text, found = "", []
    for position in reversed(range(len(pieces))):  # from the right: {a} looks at what follows it
        name = pieces[position] if position % 2 else None
        piece = pieces[position] if name is None else indefinite_article(text) if name == "a" else values[name]
        text = piece + text
        if name not in (None, "a"):
            found.append((str(name), piece, len(text)))
    spans = ((name, value, len(text) - from_end) for name, value, from_end in reversed(found))
    return text, tuple(
        Slot(name=name, value=value, start=start, end=start + len(value)) for name, value, start in spans
    )


def indefinite_article(text: str) -> str:
    """`a` or `an`, by the spelling of the first word of `text`; some exceptions of English are known."""
    word = _WORD.search(text)
    return "an" if word and _AN.match(word.group()) else "a"


def _fill_templates(
    recipe: Recipe, concept: Concept, templates: Sequence[str], words: Sequence[str], shares: Sequence[int]
) -> list[list[Draft]]:
    """Distinct filled texts of each template, at most its share."""
    if not templates:
        return []
    columns = [_Column("concept", tuple(words), (1.0,) * len(words)), *_attribute_columns(recipe)]
    sizes = {column.name: len(column.values) for column in columns}
    possible = [prod(sizes[name] for name in set(SLOT.findall(template)) - {"a"}) for template in templates]
    wanted = [min(share, most) for share, most in zip(shares, possible, strict=False)]
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
    for row in rows:
        values = {column.name: column.values[value] for column, value in zip(columns, row[1:], strict=True)}
        yield fill_template(template, values)


def _attribute_columns(recipe: Recipe) -> list[_Column]:
    columns = []
    for name, values in recipe.prompts.attributes.items():
        weights = dict(values) if isinstance(values, Mapping) else dict.fromkeys(values, 1.0)
        weighted = recipe.prompts.balance == "weighted"
        columns.append(_Column(name, tuple(weights), tuple(w if weighted else 1.0 for w in weights.values())))
    return columns


def _accept_sentences(written: Sequence[str], words: Sequence[str]) -> Iterator[Draft]:
    """First sentence of each text, where it holds one of the words; the first word of the list that occurs counts."""
    for text in written:
        line = next((line for line in text.splitlines() if _WORD.search(line)), "")
        sentence = " ".join(_SENTENCE_END.split(_LIST_MARK.sub("", line), maxsplit=1)[0].split()).strip("\"' ")
        spans = (re.search(rf"(?<!\w){re.escape(word)}(?!\w)", sentence, re.IGNORECASE) for word in words)
        if found := next(filter(None, spans), None):
            yield sentence, (Slot(name="concept", value=found.group(), start=found.start(), end=found.end()),)


def _distinct(texts: Iterator[Draft]) -> list[Draft]:
    kept: dict[str, Draft] = {}
    for text, slots in texts:
        kept.setdefault(_normalise(text), (text, slots))
    return list(kept.values())


def _interleave(drafts: Mapping[str, Sequence[Draft]], sources: int) -> Iterator[Prompt]:
    numbered = [
        (rank * sources + number, source, *draft)
        for number, (source, texts) in enumerate(drafts.items())
        for rank, draft in enumerate(texts)
    ]
    seen = set()
    for index, source, text, slots in sorted(numbered, key=lambda entry: entry[0]):
        if _normalise(text) not in seen:
            seen.add(_normalise(text))
            yield Prompt(prompt_index=index, source=source, text=text, slots=slots)


def _normalise(text: str) -> str:
    return " ".join(text.lower().split())


def _seed(recipe: Recipe, concept: Concept, purpose: str) -> int:
    return derive_seed(f"{recipe.seed}\x1f{concept.name}", purpose)
