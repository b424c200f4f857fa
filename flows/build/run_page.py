"""Describe a finished build on Prefect's page: the run's name, its last log lines, and artifacts with the outcome."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from tailforge.flows.build.choose import open_recipe
from tailforge.flows.build.queries import summary_view
from tailforge.schemas.documents.shown import count_of, shorten, visible
from tailforge.schemas.errors import TailforgeError
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.report.units import show_percent

MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!])")
SHOWN_CHANGES = 20  # of the recipe, models and libraries
LONGEST = 500  # characters of a line


def name_run() -> str:
    """Return the name of a run before its version is known: the dataset's, or the file's for an unreadable recipe."""
    given = flow_run.get_parameters()
    try:
        return open_recipe(given["recipe"], given["store"], given.get("overrides") or ()).recipe.name
    except TailforgeError:
        return Path(given["recipe"]).stem or "build"


def show_run(recipe: Recipe, store: str, accepted: Mapping[str, int], made: Mapping[str, Any], log: Any) -> None:
    """Name the run by its version, log the outcome and create artifacts. `made`: the outcome of `describe_build`.

    `accepted`: images by concept. Errors: those of the Prefect client and of `summary_view`.
    """
    version = f"{made['name']} {made['version']}"
    name = version if made["new"] else f"{version} (unchanged)"
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(flow_run.get_id()), name=name)

    summary = summary_view(store, f"{made['name']}@{made['version']}") or {}
    rows = count_concepts(recipe, accepted, summary)
    for line in describe_outcome(made, summary):
        log.info(line)

    key = made["name"].replace("_", "-")
    create_table_artifact(rows, key=f"{key}-quotas", description=f"{version}: {_verdict(summary)}")
    create_markdown_artifact(write_markdown(made, summary, rows), key=f"{key}-version", description=_verdict(summary))
    create_link_artifact(as_link(made["report"]), f"Report of {version}", key=f"{key}-report")


def describe_outcome(made: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    """Return the last lines of a run's log: the version, the verdict with its findings, and the report."""
    state = "published" if made["new"] else "unchanged"
    return [
        f"{state}: {made['name']} {made['version']}, {count_of(made['samples'], 'image')}",
        f"verdict: {_verdict(summary)}",
        *(f"to look at: {finding}" for finding in _findings(summary)),
        f"report: {made['report']}",
    ]


def as_link(address: str) -> str:
    """Return a report's address as a link. A path of this machine becomes a file:// URI."""
    return address if "://" in address else Path(address).as_uri()


def count_concepts(recipe: Recipe, accepted: Mapping[str, int], summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per concept: images requested and accepted and, with a summary, images made and their yield."""
    known = {row["name"]: row for row in summary.get("concepts", ())}
    rows = []
    for concept in recipe.concepts:
        row = {"concept": concept.name, "requested": concept.wanted, "accepted": accepted.get(concept.name, 0)}
        if (counts := known.get(concept.name)) is not None:
            passed = counts["accepted"] + counts["surplus"]
            made = passed + counts["rejected"]
            row |= {"made": made, "yield": show_percent(passed / made) if made else "none made"}
        rows.append(row)
    return rows


def write_markdown(made: Mapping[str, Any], summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the run in Markdown: verdict, changes since the previous version, yield by concept, work, report."""
    findings = [f"- {_escape(text)}" for text in _findings(summary)]
    columns = list(rows[0])
    table = [columns, ["---"] * len(columns), *([str(row[column]) for column in columns] for row in rows)]
    work = [f"- {stage}: {count_of(count, 'step')} run" for stage, count in made["work"].items() if count]

    sections = {
        f"{made['name']} {made['version']}": [f"**{_escape(_verdict(summary))}**", "", *findings],
        "What changed": describe_changes(made, summary),
        "Yield by concept": [f"| {' | '.join(_escape(cell) for cell in cells)} |" for cells in table],
        "Work": work or ["Nothing: all was finished."],
        "Report": [f"`{made['report']}`", "", f"{count_of(made['samples'], 'image')} in `{made['uri']}`"],
    }
    lines = [[f"{'#' if place == 0 else '##'} {_escape(title)}", "", *text, ""]
             for place, (title, text) in enumerate(sections.items())]  # fmt: skip
    return "\n".join(line for section in lines for line in section)


def describe_changes(made: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    """Return the lines (Markdown) on a version's changes since the previous one."""
    if not made["new"]:
        return [f"Nothing since {made['name']} {made['version']}, so no version was published."]
    changes = summary.get("changes")
    if changes is None:
        return ["There is no previous version to compare with."]

    counts = {
        "added": sum(changes["added"].values()),
        "removed": sum(changes["removed"].values()),
        "changed": changes["changed"],
    }
    counted = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    causes = _list_causes(changes)
    return [f"Since {_escape(changes['previous'])}: {counted}.", *([""] if causes else []), *causes]


def _list_causes(changes: Mapping[str, Any]) -> list[str]:
    """Return one line per changed setting, model and library, at most SHOWN_CHANGES."""
    lines = []
    named = [(kind, each) for kind in ("recipe", "models", "libraries") for each in changes[kind]]
    for kind, each in named[:SHOWN_CHANGES]:
        before, after = (_escape(each[side]) or "nothing" for side in ("before", "after"))
        lines.append(f"- {kind}: {_escape(each['name'])} from {before} to {after}")
    if len(named) > SHOWN_CHANGES:
        lines.append(f"- and {len(named) - SHOWN_CHANGES} more, in the report")
    return lines


def _verdict(summary: Mapping[str, Any]) -> str:
    """Return the report's verdict."""
    return str(summary.get("verdict", {}).get("text", "its report has no verdict"))


def _findings(summary: Mapping[str, Any]) -> list[str]:
    """Return the verdict's findings, one line each."""
    return [shorten(visible(str(each["text"])), LONGEST) for each in summary.get("verdict", {}).get("findings", ())]


def _escape(text: Any) -> str:
    """Return a text on one line, escaped for Markdown."""
    return MARKUP.sub(r"\\\1", shorten(visible(" ".join(str(text).split())), LONGEST))


def console_shows_logs() -> bool:
    """Return whether Prefect prints the run's log itself. Its workers do so, this package's commands do not."""
    from prefect.logging.handlers import PrefectConsoleHandler

    shown = [each for each in logging.getLogger().handlers if isinstance(each, PrefectConsoleHandler)]
    return any(each.level <= logging.INFO for each in shown)
