"""Read YAML of people within limits: recipe files and the values of --set.

Results are plain: no two places share an object, no number exceeds 64 bits, and no key occurs twice.
"""

from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

import yaml

from tailforge.schemas.documents.foreign_json import DEEPEST
from tailforge.schemas.documents.shown import shorten, show_key, show_line, steers
from tailforge.schemas.errors import RecipeError

LARGEST = 2**20  # characters of a document
MOST_VALUES = 200_000  # keys and values; an alias counts at each use
LONGEST_NUMBER = 64  # characters
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same language, ten times as fast with libyaml


class _Refusal(yaml.YAMLError):
    """A refusal of a document that is valid YAML."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem)
        self.problem, self.problem_mark = problem, mark


class _Loader(_Base):  # type: ignore[misc]
    """A safe loader whose errors of construction name the problem and its place."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Return the value of a node. Errors: YAMLError for numbers beyond 64 bits and values outside their type."""
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
    """Return the document as plain lists, mappings and values. Errors name `origin`.

    Errors: RecipeError with line and column for no YAML, a limit exceeded, or a key given twice.
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
    except UnicodeEncodeError as error:  # a command-line argument that is no UTF-8 holds halves of surrogate pairs
        raise RecipeError(f"{origin}: not readable as YAML: it is no UTF-8 text") from error


def find_places(text: str) -> dict[str, tuple[int, int]]:
    """Return (line, column), counted from 1, of every key and element of a list, by its path as errors show it.

    `text`: a document that `parse_yaml` accepts.
    """
    return dict(_list_places(yaml.compose(text, Loader=_Base), ()))


def _list_places(node: Any, path: tuple[str, ...]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the path and the place of every key and element below a node."""
    pairs: Iterable[tuple[str, Any, Any]] = ()
    if isinstance(node, yaml.MappingNode):
        pairs = ((key.value, key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode))
    elif isinstance(node, yaml.SequenceNode):
        pairs = ((str(number), value, value) for number, value in enumerate(node.value))

    for key, named, value in pairs:
        inner = (*path, key)
        yield ".".join(map(show_key, inner)), (named.start_mark.line + 1, named.start_mark.column + 1)
        yield from _list_places(value, inner)


def _refuse_depth(text: str) -> None:
    """Refuse deep nesting. Errors: YAMLError."""
    # Composing and constructing are recursive, so count the levels before.
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise _Refusal(f"more than {DEEPEST} levels of lists and mappings", event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Measure:
    """Counts values and levels of nodes, with aliases resolved."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[int, int]] = {}
        self.open: set[int] = set()

    def measure(self, node: Any) -> tuple[int, int]:
        """Return (values, levels) of a node.

        Errors: YAMLError if a limit is exceeded, a list contains itself, or a key occurs twice.
        """
        if id(node) in self.open:
            raise _Refusal("an alias stands for the list or mapping that contains it", node.start_mark)

        if id(node) not in self.known:
            self.open.add(id(node))
            if isinstance(node, yaml.MappingNode):
                _refuse_twice(node)

            # Known nodes are not counted again, so nested aliases cost no time.
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
    """Refuse a key that occurs twice, of which PyYAML would keep the last. Errors: YAMLError.

    A mapping may repeat the keys that it merges by `<<`, since those are defaults.
    """
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                raise _Refusal(f"key {show_key(key.value)!r} is given twice", key.start_mark)
            seen.add((key.tag, key.value))


def _unshare(value: Any) -> Any:
    """Return a deep copy without shared objects, so that an override changes one place only."""
    if isinstance(value, dict):
        return {key: _unshare(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_unshare(inner) for inner in value]
    return value


def _explain(error: yaml.YAMLError) -> str:
    """Return the problem with line and column, counted from 1, and without text of the document."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).partition("\n")[0]
    context = getattr(error, "context", None)
    return where + shorten(show_line(f"{problem} ({context})" if context else str(problem)), 300)


def find_unfit(value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a line for each text with a control character and each value of a type that YAML alone knows.

    `path`: the keys of the value, for the lines.
    """
    where = ".".join(map(show_key, path))
    if isinstance(value, str):
        wrong = next((each for each in value if steers(each)), None)
        if wrong is not None:
            yield f"{where}: holds the control character U+{ord(wrong):04X}; leave it out"
    elif isinstance(value, bytes | date):
        yield f"{where}: must be text or a number; found {type(value).__name__}, put it in quotes"

    # Descend into keys and values.
    elif isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, str):
                yield from find_unfit(key, (*path, "key"))
            yield from find_unfit(inner, (*path, str(key)))
    elif isinstance(value, list | tuple | set):
        for place, inner in enumerate(value):
            yield from find_unfit(inner, (*path, str(place)))
