"""JSON of others: limits of size, depth and numbers, and one short line for whatever is wrong."""

import json

import pytest
from pydantic import BaseModel, ValidationError

from tailforge.schemas.documents.foreign_json import (
    DEEPEST,
    SHOWN_CHARACTERS,
    describe_damage,
    parse_json,
    parse_object,
)


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (nested(DEEPEST + 2), "nested deeper than 64"),
        ('{"a":' * 100_000, "nested deeper than 64"),
        ("[NaN]", "NaN is no JSON number"),
        ("[1e999]", "beyond the range of float64"),
        ('["\\ud800"]', "half of a surrogate pair"),
        (b"\xff\xfe[]", "utf-8"),
        ("9" * 5000, "digits"),
        ("{", "Expecting"),
    ],
)
def test_what_is_no_plain_document_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_documents_within_the_limits_are_read() -> None:
    assert parse_json(nested(DEEPEST)) == json.loads(nested(DEEPEST))
    assert parse_object(b'{"a": [1, 2.5, "\xc3\xa4"]}') == {"a": [1, 2.5, "\u00e4"]}
    assert parse_object('{"low": -Infinity}', finite=False) == {"low": float("-inf")}
    with pytest.raises(ValueError, match="10 are allowed"):
        parse_json(" " * 11, 10)
    with pytest.raises(ValueError, match="holds a list"):
        parse_object("[]")


def test_damage_is_told_on_one_short_line() -> None:
    class Model(BaseModel):
        a: int
        b: int
        c: int
        d: int

    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"a": "x" * 10_000})
    told = describe_damage(caught.value)
    assert told.startswith("a: Input should be")
    assert told.endswith("and 1 more")
    assert describe_damage(ValueError("two\nlines\x1b[31m")) == "two lines [31m"
    assert len(describe_damage(ValueError("x" * 9000))) == SHOWN_CHARACTERS
