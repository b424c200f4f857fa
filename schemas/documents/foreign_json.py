"""Read JSON of unknown origin within limits, and describe its damage in one line."""

import json
import math
import re
from typing import Any, NoReturn

from pydantic import ValidationError

from tailforge.schemas.documents.shown import count_of, describe_failure, shorten, show_line

MOST_BYTES = 64 * 2**20
DEEPEST = 64  # levels of lists and objects; also for YAML, with its aliases resolved
SHOWN_ERRORS, SHOWN_CHARACTERS = 3, 300
SURROGATE = re.compile("[\ud800-\udfff]")


def parse_json(data: bytes | str, most_bytes: int = MOST_BYTES, *, finite: bool = True) -> Any:
    """Return the value of a JSON document of at most `most_bytes`.

    `finite` refuses Infinity and NaN; configurations of models contain them. Errors: ValueError for a document that is
    too large, too deep, or no JSON of RFC 8259.
    """
    if len(data) > most_bytes:
        raise ValueError(f"it has {count_of(len(data), 'byte')}; {most_bytes:,} are allowed")

    try:
        text = data if isinstance(data, str) else data.decode()
        value = json.loads(text, parse_constant=_refuse_constant if finite else None)
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from error

    _check_values(value, finite)
    return value


def parse_object(data: bytes | str, most_bytes: int = MOST_BYTES, *, finite: bool = True) -> dict[str, Any]:
    """Return the value of a JSON document that must be an object.

    Parameters as in `parse_json`. Errors: ValueError, also for a document of another type.
    """
    value = parse_json(data, most_bytes, finite=finite)
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__} in place of an object")
    return value


def describe_damage(error: BaseException) -> str:
    """Return an error as one line of at most SHOWN_CHARACTERS; of a ValidationError the first mistakes."""
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_input=False)
        lines = [f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}" for each in found[:SHOWN_ERRORS]]
        more = [f"and {len(found) - SHOWN_ERRORS} more"] if len(found) > SHOWN_ERRORS else []
        text = "; ".join([*lines, *more])
    else:
        text = describe_failure(error) or type(error).__name__
    return shorten(show_line(text), SHOWN_CHARACTERS)


def _check_values(value: Any, finite: bool) -> None:
    """Check depth, numbers and texts of a value.

    Errors: ValueError for deep nesting, a number beyond float64, or half of a surrogate pair in a text.
    """
    # Go level by level, since recursion would fail on deep nesting.
    level = [value]
    for _ in range(DEEPEST + 1):
        if not level:
            return
        following: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                following += each.keys()
                following += each.values()
            elif isinstance(each, list):
                following += each
            elif isinstance(each, str):
                if not each.isascii() and SURROGATE.search(each):
                    raise ValueError("a text holds half of a surrogate pair")
            elif finite and isinstance(each, float) and not math.isfinite(each):
                raise ValueError("a number is beyond the range of float64")
        level = following
    raise ValueError(f"it is nested deeper than {DEEPEST} levels")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
