"""Translate pydantic's errors for a recipe's author: the key as written, the mistake, and the value found."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar, get_args

from pydantic import AliasChoices, BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo

from tailforge.schemas.documents.origin import Origin
from tailforge.schemas.documents.shown import LONGEST, shorten, show, show_key, show_text
from tailforge.schemas.documents.yaml_file import find_unfit
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.settings.fields import AUTHORED

_Model = type[BaseModel]
M = TypeVar("M", bound=BaseModel)
LISTED = 20  # known keys in an error that also suggests one
SHOWN = 10  # mistakes in an error, which counts the rest
LONGEST_LINE = 800  # characters
MAPPING_KEY = "[key]"  # pydantic's mark of an error in a key, not in its value
NUMBER, WHOLE, TRUTH = "must be a number", "must be a whole number", "must be true or false"
LIST, SECTION = "must be a list", "must be a mapping of keys to values"
# By pydantic's type of error; braces take bounds from pydantic's context.
PHRASES: Mapping[str, str] = {
    "missing": "is missing; add it",
    "int_type": WHOLE,
    "int_parsing": WHOLE,
    "int_from_float": WHOLE,
    "float_type": NUMBER,
    "float_parsing": NUMBER,
    "int_parsing_size": "must be a whole number of fewer digits",
    "finite_number": "must be a finite number",
    "bool_type": TRUTH,
    "bool_parsing": TRUTH,
    "string_type": "must be text, in quotes if it looks like a number",
    "tuple_type": LIST,
    "list_type": LIST,
    "dict_type": SECTION,
    "mapping_type": SECTION,
    "model_type": SECTION,
    "model_attributes_type": SECTION,
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "greater_than": "must be above {gt}",
    "less_than": "must be below {lt}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have {max_length} entries at most",
    "string_too_short": "must have {min_length} or more characters",
    "string_too_long": "must have {max_length} characters at most",
    "string_pattern_mismatch": "must have the form {pattern}",
    "literal_error": "must be {expected}",
    "invalid_key": "must be text, in quotes",
}


@dataclass(frozen=True)
class _Mistake:
    """One error of pydantic. `path`: keys as written.

    `doubtful`: the error concerns one member of a union alone, or may follow from a mistake further down.
    """

    path: tuple[str | int, ...]
    item: Any
    doubtful: bool


def read_authored(model: type[M], data: object, origin: str | Origin) -> M:
    """Validate a person's document `data` as `model`, with tidied names. Errors name `origin`.

    Errors: RecipeError with a line per mistake and its place in `origin`, also for control characters.
    """
    # Check before and after pydantic, which accepts control characters and turns true into 1.
    unfit = list(islice(find_unfit(data), SHOWN))
    if unfit:
        raise list_mistakes(unfit, origin)
    try:
        read = model.model_validate(data, context=AUTHORED)
    except ValidationError as error:
        raise refuse_recipe(error, model, data, origin) from error
    truths = list(islice(_find_truths(data, read), SHOWN))
    if truths:
        raise list_mistakes(truths, origin)
    return read


def _find_truths(data: object, read: object, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a line per true or false that became a number. YAML reads `yes` and `on` as true, pydantic true as 1."""
    if isinstance(data, bool) and isinstance(read, int | float) and not isinstance(read, bool):
        yield f"{'.'.join(map(show_key, path))}: {NUMBER}; found {show(data)}"
    elif isinstance(data, dict):
        known = _by_key(read)
        for key, value in data.items():
            yield from _find_truths(value, known.get(key), (*path, str(key)))
    elif isinstance(data, list) and isinstance(read, list | tuple) and len(data) == len(read):
        for place, (value, inner) in enumerate(zip(data, read, strict=True)):
            yield from _find_truths(value, inner, (*path, str(place)))


def _by_key(read: object) -> dict[Any, object]:
    """Return the values of a model or a mapping by their keys in a recipe."""
    if isinstance(read, BaseModel):
        return {_key_of(name, field): getattr(read, name) for name, field in type(read).model_fields.items()}
    return read if isinstance(read, dict) else {}


def refuse_recipe(error: ValidationError, model: _Model, data: object, origin: str | Origin) -> RecipeError:
    """Return the error to raise if `model` refused `data` of `origin`: a line per mistake."""
    return _compose(*_describe(error, model, data), origin)


def list_mistakes(lines: Sequence[str], origin: str | Origin) -> RecipeError:
    """Return the error to raise for mistakes in the recipe `origin`."""
    return _compose(lines[:SHOWN], len(lines), origin)


def describe_mistakes(error: ValidationError, model: _Model, data: object) -> list[str]:
    """Return a line per mistake in `data`, and a line that counts the mistakes beyond SHOWN."""
    lines, count = _describe(error, model, data)
    return [*lines, *_count_more(len(lines), count)]


def refuse_options(error: ValidationError, model: _Model, data: object) -> RecipeError:
    """Return the error to raise if `model` refused the values of command-line options: each mistake by its option."""
    parts = (line.partition(": ") for line in describe_mistakes(error, model, data))
    lines = (f"--{key.partition('.')[0].replace('_', '-')}: {text}" if text else key for key, _, text in parts)
    return RecipeError("; ".join(lines))


def _compose(lines: Sequence[str], count: int, origin: str | Origin) -> RecipeError:
    """Return an error with a single mistake on the recipe's line, or several on the lines below it."""
    if isinstance(origin, Origin):
        lines = [origin.locate(line) + line for line in lines]
    if count == 1:
        return RecipeError(f"{origin}: {lines[0]}")
    shown = (f"  {line}" for line in (*lines, *_count_more(len(lines), count)))
    return RecipeError("\n".join([f"{origin}: {count:,} mistakes:", *shown]))


def _count_more(shown: int, count: int) -> list[str]:
    return [f"... and {count - shown:,} more"] if count > shown else []


def _describe(error: ValidationError, model: _Model, data: object) -> tuple[list[str], int]:
    """Return the first lines and the number of all lines. All members of a union that refused a value share one."""
    # Leave out doubtful errors above the place of another.
    mistakes = [_locate(item, data) for item in error.errors(include_url=False)]
    inner = {each.path[:length] for each in mistakes for length in range(len(each.path))}
    grouped: dict[tuple[Any, ...], list[_Mistake]] = {}
    for place, each in enumerate(mistakes):
        if not (each.doubtful and each.path in inner):
            grouped.setdefault((each.path, None if each.doubtful else place), []).append(each)
    return [_line(group, model) for group in islice(grouped.values(), SHOWN)], len(grouped)


def _line(group: Sequence[_Mistake], model: _Model) -> str:
    """Return the line of mistakes at one place, as alternatives."""
    read = [_read(each, model) for each in group]
    path, _, found = read[0]
    whole = ", or ".join(dict.fromkeys(text for _, text, _ in read)) + found
    return shorten(f"{'.'.join(map(show_key, path))}: {whole}" if path else whole, LONGEST_LINE)


def _locate(item: Any, data: object) -> _Mistake:
    """Return pydantic's error `item` with its keys in the document, and whether it is doubtful."""
    loc, kind = item["loc"], item["type"]
    path, in_key = _written_path(loc, data, kind), loc[-1:] == (MAPPING_KEY,)
    if kind in ("value_error", "missing", "extra_forbidden", "union_tag_invalid"):
        return _Mistake(path, item, False)
    if in_key and _quoted(item.get("ctx", {}).get("expected", "")):
        return _Mistake(path, item, False)
    return _Mistake(path, item, kind == "too_short" or (not in_key and path[-1:] != loc[-1:]))


def _read(mistake: _Mistake, model: _Model) -> tuple[tuple[str | int, ...], str, str]:
    """Return (keys as written, mistake, value found)."""
    path, item = mistake.path, mistake.item
    loc, kind, context = item["loc"], item["type"], item.get("ctx", {})
    in_key = loc[-1:] == (MAPPING_KEY,)

    # Errors with a text of their own.
    if kind == "value_error":  # a validator's text, which names the value found
        return path, str(context["error"]), ""
    if kind == "missing":
        return path, PHRASES[kind], ""
    if kind == "extra_forbidden":
        return path, _unknown_key(model, loc), ""
    if kind == "union_tag_invalid":
        known, tag = _quoted(context["expected_tags"]), str(context["tag"])
        path = (*path, context["discriminator"].strip("'"))
        return path, f"must be one of {', '.join(known)}", f"; found {show(tag)}{_suggest(tag, known)}"

    # Errors of PHRASES, about a key or its value.
    known = _quoted(context.get("expected", ""))
    if in_key and known:
        return path, _unknown(str(item["input"]), known), ""
    text = _phrase(item)
    if kind == "string_pattern_mismatch":
        text += _meaning(model, loc)
    given = item["input"]
    found = f"; found {show(given)}{_suggest(given, known) if isinstance(given, str) else ''}"
    return path, f"this key {text}" if in_key else text, found


def _phrase(item: Any) -> str:
    """Return one error of pydantic in the words of PHRASES, or in its own for other types."""
    bounds = {name: f"{value:g}" if isinstance(value, float) else value for name, value in item.get("ctx", {}).items()}
    kind = item["type"]
    return PHRASES[kind].format(**bounds) if kind in PHRASES else str(item["msg"])


def describe_word(error: ValidationError, word: str) -> str:
    """Return the mistake in a word of the command line that should be a number, and the word."""
    shown = word if re.fullmatch(r"[-+]?[\d.]{1,20}", word, re.ASCII) else show_text(word)
    return f"{_phrase(error.errors(include_url=False)[0])}; found {shown}"


def _written_path(loc: tuple[str | int, ...], data: Any, kind: str) -> tuple[str | int, ...]:
    """Return the keys of `loc` that are in the document. Pydantic adds the members of unions that it tried."""
    path: list[str | int] = []
    for key in loc:
        if isinstance(data, dict):
            inside = key in data
        else:
            inside = isinstance(data, list | tuple) and isinstance(key, int) and key < len(data)
        if inside:
            data = data[key]
            path.append(key)
    return (*path, loc[-1]) if kind == "missing" else tuple(path)


def _meaning(model: _Model, loc: tuple[str | int, ...]) -> str:
    """Return the description of the field at `loc` in brackets, or an empty text."""
    keys = [keys_of(each) for each in _section(model, loc)[0]]
    fields = [each[str(loc[-1])] for each in keys if loc[-1] in each]
    return next((f" ({field.description.rstrip('.')})" for field in fields if field.description), "")


def keys_of(model: _Model) -> dict[str, FieldInfo]:
    """Return the fields of a model by their keys in a recipe, the newest key of each."""
    return {_key_of(name, field): field for name, field in model.model_fields.items()}


def _key_of(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else name


def _unknown_key(model: _Model, loc: tuple[str | int, ...]) -> str:
    """Return the line for an unknown key, the last of `loc`, with suggestions."""
    key, (found, others) = str(loc[-1]), _section(model, loc)
    text = _unknown(key, list(dict.fromkeys(name for each in found for name in keys_of(each))))
    kinds = [kind for each in others if key in keys_of(each) for kind in _kinds(each)]
    return f"{text}. It is a key of kind {', '.join(kinds)}" if kinds else text


def _section(model: _Model, loc: tuple[str | int, ...]) -> tuple[list[_Model], list[_Model]]:
    """Return the models that may contain the last key of `loc`, and the other members of their union."""
    found: list[_Model] = [model]
    others: list[_Model] = []
    members: list[tuple[_Model, set[str | None]]] = []
    for step in loc[:-1]:
        chosen = [each for each, tags in members if step in tags]
        fields = [keys_of(each)[str(step)] for each in found if step in keys_of(each)]
        if chosen:
            found, others = chosen, [each for each, _ in members if each not in chosen]
        elif fields:  # other steps are places in a list or keys of a mapping of such models
            members = [member for field in fields for member in _members(field.annotation)]
            found, others = [each for each, _ in members], []
    return found, others


def _members(annotation: Any, tag: str | None = None) -> Iterator[tuple[_Model, set[str | None]]]:
    """Yield the models that a field's type mentions, each with its possible tags in a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, {*_kinds(annotation), tag}
    arguments = get_args(annotation)
    inner = next((argument.tag for argument in arguments if isinstance(argument, Tag)), tag)
    for argument in arguments:
        yield from _members(argument, inner)


def _kinds(model: _Model) -> tuple[str, ...]:
    """Return the values of a model's field `kind`; empty without such a field."""
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def _unknown(key: str, known: Sequence[str]) -> str:
    """Return the words for an unknown key: a suggestion, the known keys, or both if these are few."""
    hint = _suggest(key, known)
    return (
        f"unknown key{hint}" if hint and len(known) > LISTED else f"unknown key{hint or '.'} Known: {', '.join(known)}"
    )


def _suggest(found: str, known: Sequence[str]) -> str:
    """Return a question for the most similar known word; empty if none is similar."""
    if len(found) > LONGEST:
        return ""
    close = difflib.get_close_matches(found, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _quoted(text: str) -> list[str]:
    """Return the words in single quotes."""
    return re.findall(r"'([^']*)'", text)
