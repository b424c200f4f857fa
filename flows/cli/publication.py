"""What a build did, as commands that build print it."""

from typing import Any

from rich.text import Text

from tailforge.flows.cli.options import console
from tailforge.schemas.documents.shown import count_of, visible

LOW_AGREEMENT = 0.9  # of a teacher with the labels: below, a person is warned


def warn(about: str, text: str) -> None:
    """A line that begins in colour."""
    console.print(Text.assemble((f"{about}:", "yellow"), " ", visible(text)), soft_wrap=True)


def print_publication(made: dict[str, Any]) -> None:
    """What a build did, for a person."""
    work = (
        ", ".join(f"{count} {stage}" for stage, count in made["work"].items() if count) or "nothing: all was finished"
    )
    new = "published" if made["new"] else "unchanged, already published as"
    name = (visible(f"{made['name']}@{made['version']}"), "bold")
    where = visible(f", {count_of(made['samples'], 'image')}, in {made['uri']}")
    console.print(Text.assemble(f"{new} ", name, where), soft_wrap=True)
    console.print(f"work done: {work}", soft_wrap=True)
    if (agreed := made.get("teacher_agrees", 1.0)) < LOW_AGREEMENT:
        warn(
            "labels",
            f"the teacher sees {100 * agreed:.0f} % of the images as they are labelled; set "
            "quality.gates.teacher_agreement, more engine.steps, or look for another teacher",
        )
    for name, count in made["shortfall"].items():
        warn("short", f"{name} lacks {count}")
    for name, count in made["unread_prompts"].items():
        warn("too long", f"the generator does not read {name} in {count_of(count, 'prompt')}; not drawn")
    for sample_id in made.get("stale_repairs", ()):
        warn(
            "repair",
            f"{sample_id} is drawn otherwise now or no longer at all, so its repair was "
            "passed over; explain it again, or forget the repair by --undo",
        )
    console.print(f"report: {made['report']}", soft_wrap=True)
