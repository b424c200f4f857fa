"""Write the reference pages for programs: the tables' columns, and the names that `tailforge` exports."""

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

import tailforge
from tailforge.schemas import tables

SHORTER = {r"collections\.abc\.|typing\.": "", r"\b_compute\b": "compute", r"-> '(\w+)'": r"-> \1"}
COLUMN = re.compile(r'\s*\(?\s*"(\w+)"')


def tables_page() -> str:
    """Return the page of every table: its columns, their types and the comments of schemas/tables.py."""
    lines = ["# The tables", "", "Written by `make docs` from schemas/tables.py.", ""]
    lines += [inspect.cleandoc(tables.__doc__ or ""), ""]
    meanings = column_meanings(tables)
    for name, schema in vars(tables).items():
        if not isinstance(schema, pa.Schema) or name.startswith("_"):
            continue
        lines += [f"## {name}", "", "| column | type | meaning |", "|---|---|---|"]
        lines += [
            f"| `{each.name}` | {type_name(each.type)} | {meanings[name].get(each.name, '')} |" for each in schema
        ]
        lines.append("")
    return "\n".join(lines)


def type_name(kind: pa.DataType) -> str:
    """Return an Arrow type in few words: a list of records names its fields, not their types."""
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        fields = ", ".join(f"`{kind.value_type.field(at).name}`" for at in range(kind.value_type.num_fields))
        return f"list of records: {fields}"
    if pa.types.is_list(kind):
        return f"list of {kind.value_type}"
    return str(kind)


def column_meanings(module: ModuleType) -> dict[str, dict[str, str]]:
    """Return by table and column the comment on the column's line, or that of a list of columns which tables share."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    comments = comments_by_line(source)
    written: dict[str, dict[str, str]] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            written[node.targets[0].id] = dict(comments[line] for line in lines if line in comments)

    shared: dict[str, str] = {}
    for name, found in written.items():
        if not isinstance(getattr(module, name), pa.Schema):
            shared |= found
    return {name: shared | found for name, found in written.items()}


def comments_by_line(source: str) -> dict[int, tuple[str, str]]:
    """Return {line: (column, comment)} for the lines of a module that name a column.

    The comment ends the line, or stands on the lines above it.
    """
    found: dict[int, tuple[str, str]] = {}
    above: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line, text = token.start[0], token.string.lstrip("# ").replace("|", "\\|")
            if column := COLUMN.match(token.line):
                found[line] = (column[1], text)
            else:
                above[line + 1] = f"{above.pop(line, '')} {text}".strip()
        elif token.type == tokenize.STRING and token.start[0] in above and (column := COLUMN.match(token.line)):
            found.setdefault(token.start[0], (column[1], above[token.start[0]]))
    return found


def api_page() -> str:
    """Return the page of the names in `tailforge.__all__`. Raises LookupError for a name without a docstring."""
    lines = ["# The library", "", "Written by `make docs` from the docstrings of what `tailforge` exports.", ""]
    lines += ["```text", "from tailforge import open_dataset", "```", ""]
    for name in sorted(tailforge.__all__, key=str.lower):
        if not name.startswith("__"):
            lines += describe(name, getattr(tailforge, name), "##")
    return "\n".join(lines)


def describe(name: str, thing: Any, heading: str) -> list[str]:
    """Return the lines of one function, class, method or property; of a class, its public members follow."""
    text = inspect.getdoc(thing) if not isinstance(thing, type) else inspect.cleandoc(thing.__doc__ or "")
    if not text:
        raise LookupError(f"tailforge exports {name}, which has no docstring; write one")
    lines = [f"{heading} {name}", ""]
    if not isinstance(thing, type | property):
        lines += ["```text", f"{name}{show_signature(thing)}", "```", ""]
    lines += [text, ""]
    if isinstance(thing, type):
        for member, value in public_members(thing):
            lines += describe(f"{name}.{member}", value, heading + "#")
    return lines


def show_signature(function: Any) -> str:
    """Return a function's parameters and result as a reader types them, one per line where they are many."""
    signature = inspect.signature(function)
    shown = [str(each) for name, each in signature.parameters.items() if name != "self"]
    kinds = [each.kind for name, each in signature.parameters.items() if name != "self"]
    if inspect.Parameter.KEYWORD_ONLY in kinds:
        shown.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    inner = ", ".join(shown)
    broken = ",\n    ".join(shown)
    text = f"(\n    {broken},\n)" if len(inner) > 100 else f"({inner})"
    text += f" -> {inspect.formatannotation(signature.return_annotation)}"
    for long, short in SHORTER.items():
        text = re.sub(long, short, text)
    return text


def public_members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the methods and properties that a class defines itself and that begin with no underscore."""
    for name, value in vars(kind).items():
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            yield name, value
