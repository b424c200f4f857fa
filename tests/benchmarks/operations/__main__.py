"""Benchmark of daily operations: faults, reading, scaling, plans, a million samples. `make bench-operations`.

`python -m tests.benchmarks.operations` measures all parts and writes docs/benchmarks/operations.json and operations.md;
names of parts measure these alone (rows of the others stay); `page` measures nothing. A part is a module with `measure`
(rows), `SECTION` (what was asked and how it was measured) and `judge` (each goal with its figure).
"""

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.benchmarks.operations import faults, million, plan, reading, scaling
from tests.benchmarks.pages import DOCS, markdown_table, write_json

Rows = list[dict[str, Any]]


class Part(NamedTuple):
    """One question of the page."""

    measure: Callable[[], Rows]
    section: str
    judge: Callable[[Rows], list[str]]


PARTS = {
    "faults": Part(faults.measure, faults.SECTION, faults.judge),
    "plan": Part(plan.measure, plan.SECTION, plan.judge),
    "million": Part(million.measure, million.SECTION, million.judge),
    "reading": Part(reading.measure, reading.SECTION, reading.judge),
    "scaling": Part(scaling.measure, scaling.SECTION, scaling.judge),
}


def measure_parts(names: list[str]) -> None:
    """Rows are written after each part, so that a part that fails costs no other. Errors: SystemExit, unknown name."""
    if unknown := sorted(set(names) - set(PARTS)):
        raise SystemExit(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)} and page")
    for name in names:
        write_json("operations", [], [row | {"part": name} for row in PARTS[name].measure()])


def write_page() -> None:
    """The page from the rows that are there."""
    rows = json.loads((DOCS / "operations.json").read_text())["rows"]
    sections = []
    for name, part in PARTS.items():
        own = [row for row in rows if row["part"] == name]
        if own:
            sections.append("\n\n".join([part.section.strip(), markdown_table(own), "\n".join(part.judge(own))]))
    (DOCS / "operations.md").write_text("\n\n".join([HEAD.strip(), *sections]) + "\n")


HEAD = """
# Operations

Whether nightly builds survive what nights bring, whether consumers read fast, whether workers and samples scale.
`make bench-operations` on the machine named in operations.json; each part says how it was measured, its figures, and
what they mean for the goals.
"""


def main() -> None:
    """Measure and write the page."""
    words = sys.argv[1:]
    if words != ["page"]:
        measure_parts(words or list(PARTS))
    write_page()


if __name__ == "__main__":
    main()
