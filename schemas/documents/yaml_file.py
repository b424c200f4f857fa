"""YAML that a person wrote, read with limits: recipe files and the values of --set alike.

What is read is plain: no object is shared between two places, no number is beyond 64 bits, no key is given twice.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any

import yaml

from tailforge.schemas.documents.foreign_json import DEEPEST
from tailforge.schemas.documents.shown import shorten, show_key, show_line, steers
from tailforge.schemas.errors import RecipeError

LARGEST = 2**20  # characters of a document
MOST_VALUES = 200_000  # keys and values, those of aliases counted wherever they are used
LONGEST_NUMBER = 64  # characters
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same language; ten times as fast where libyaml is


class _Refusal(yaml.YAMLError):
    """A document that is YAML and is refused."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem)
        self.problem, self.problem_mark = problem, mark


class _Loader(_Base):  # type: ignore[misc]
    """Safe YAML whose every error of construction says what is wrong and where."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if node.tag in NUMBERS and isinstance(node, yaml.ScalarNode) and len(node.value) > LONGEST_NUMBER:
            raise _Refusal(f"a number of {len(node.value):,} characters; {LONGEST_NUMBER} at most", node.start_mark)
        try:
            value = super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            kind, text = node.tag.rpartition(":")[2], show_key(getattr(node, "value", ""))
            raise _Refusal(f"{text!r} is no value of type {kind}", node.start_mark) from error
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise _Refusal("a whole number beyond 64 bits", node.start_mark)
        return value


def parse_yaml(text: str, origin: str) -> Any:
    """The document as lists, mappings and values of its own. `origin` is named in errors.

    Errors: RecipeError with line and column: not YAML, beyond the limits above, a key given twice.
    """
    if len(text) > LARGEST:
        raise RecipeError(f"{origin}: {len(text):,} characters; a recipe has {LARGEST:,} at most, make it shorter")
    try:
        _refuse_depth(text)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _Measure().measure(root)
            return _unshare(loader.construct_document(root))
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin}: not readable as YAML: {_explain(error)}") from error
    except UnicodeEncodeError as error:  # half of a pair, as an argument of bytes that are no UTF-8 holds them
        raise RecipeError(f"{origin}: not readable as YAML: it is no UTF-8 text") from error


def _refuse_depth(text: str) -> None:
    """Composing and constructing call themselves for each level, so the levels are counted first."""
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise _Refusal(f"more than {DEEPEST} levels of lists and mappings", event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Measure:
    """Values and levels of each node, with the nodes that aliases stand for."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[int, int]] = {}
        self.open: set[int] = set()

    def measure(self, node: Any) -> tuple[int, int]:
        """(values, levels). Errors: YAMLError for too many, for a list that holds itself, for a key given twice."""
        if id(node) in self.open:
            raise _Refusal("an alias stands for what it is in", node.start_mark)
        if id(node) not in self.known:
            self.open.add(id(node))
            if isinstance(node, yaml.MappingNode):
                _refuse_twice(node)
            inner = [self.measure(each) for each in _children(node)]
            values, levels = 1 + sum(each[0] for each in inner), 1 + max((each[1] for each in inner), default=0)
            if values > MOST_VALUES or levels > DEEPEST:
                problem = f"more than {MOST_VALUES:,} values or {DEEPEST} levels, counting what aliases stand for"
                raise _Refusal(problem, node.start_mark)
            self.open.remove(id(node))
            self.known[id(node)] = values, levels
        return self.known[id(node)]


def _children(node: Any) -> Iterator[Any]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


def _refuse_twice(node: Any) -> None:
    """Plain YAML keeps the last one in silence. Keys that `<<` brings in may be given again: they are defaults."""
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                raise _Refusal(f"key {show_key(key.value)!r} is given twice", key.start_mark)
            seen.add((key.tag, key.value))


def _unshare(value: Any) -> Any:
    """The same values, each in a place of its own: an override of one place leaves the others."""
    if isinstance(value, dict):
        return {key: _unshare(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_unshare(inner) for inner in value]
    return value


def _explain(error: yaml.YAMLError) -> str:
    """What is wrong, with line and column counted from 1, and without the text of the document."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).partition("\n")[0]
    context = getattr(error, "context", None)
    return where + shorten(show_line(f"{problem} ({context})" if context else str(problem)), 300)


def find_unfit(value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """A line for every text with a character that steers a terminal, and every number that no model can hold."""
    where = ".".join(map(show_key, path))
    if isinstance(value, str):
        wrong = next((each for each in value if steers(each)), None)
        if wrong is not None:
            yield f"{where}: holds the control character U+{ord(wrong):04X}; leave it out"
    elif isinstance(value, bytes | date):
        yield f"{where}: must be text or a number; found {type(value).__name__}, put it in quotes"
    elif isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, str):
                yield from find_unfit(key, (*path, "key"))
            yield from find_unfit(inner, (*path, str(key)))
    elif isinstance(value, list | tuple | set):
        for place, inner in enumerate(value):
            yield from find_unfit(inner, (*path, str(place)))
