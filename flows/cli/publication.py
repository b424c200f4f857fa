"""Print the outcome of a build, for all commands that build."""

from typing import Any

from rich.text import Text

from tailforge.flows.cli.options import console
from tailforge.schemas.documents.shown import count_of, visible

LOW_AGREEMENT = 0.9  # warn below this agreement of a teacher with the labels


def warn(about: str, text: str) -> None:
    """Print a line whose first words are coloured."""
    console.print(Text.assemble((f"{about}:", "yellow"), " ", visible(text)), soft_wrap=True)


def print_publication(made: dict[str, Any]) -> None:
    """Print the outcome of a build for a person."""
    work = ", ".join(f"{count} {stage}" for stage, count in made["work"].items() if count)
    new = "published" if made["new"] else "unchanged, already published as"
    name = (visible(f"{made['name']}@{made['version']}"), "bold")
    where = visible(f", {count_of(made['samples'], 'image')}, in {made['uri']}")
    console.print(Text.assemble(f"{new} ", name, where), soft_wrap=True)
    console.print(f"work done: {work or 'nothing: all was finished'}", soft_wrap=True)

    if (agreed := made.get("teacher_agrees", 1.0)) < LOW_AGREEMENT:
        warn(
            "labels",
            f"the teacher predicts the label of only {100 * agreed:.0f} % of the images; set "
            "quality.gates.teacher_agreement, raise engine.steps, or choose another teacher",
        )
    for name, count in made["shortfall"].items():
        warn("short", f"{name} lacks {count}")
    for name, count in made["unread_prompts"].items():
        warn("too long", f"{name}: the generator cannot read it in {count_of(count, 'prompt')}; these made no images")
    for sample_id in made.get("stale_repairs", ()):
        warn(
            "repair",
            f"{sample_id} changed or is gone, so the build ignored its repair; "
            "explain the sample again, or remove the repair by --undo",
        )
    console.print(f"report: {made['report']}", soft_wrap=True)
