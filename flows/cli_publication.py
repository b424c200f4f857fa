"""What a build did, as commands that build print it."""

from typing import Any

from flows.cli_parts import console

LOW_AGREEMENT = 0.9  # of a teacher with the labels: below, a person is warned


def print_publication(made: dict[str, Any]) -> None:
    """What a build did, for a person."""
    work = (
        ", ".join(f"{count} {stage}" for stage, count in made["work"].items() if count) or "nothing: all was finished"
    )
    new = "published" if made["new"] else "unchanged, already published as"
    console.print(
        f"{new} [bold]{made['name']}@{made['version']}[/bold], {made['samples']} images, in {made['uri']}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"work done: {work}", highlight=False, soft_wrap=True)
    if (agreed := made.get("teacher_agrees", 1.0)) < LOW_AGREEMENT:
        console.print(
            f"[yellow]labels:[/yellow] the teacher sees {100 * agreed:.0f} % of the images as they are labelled; set "
            "quality.gates.teacher_agreement, more engine.steps, or look for another teacher",
            highlight=False,
            soft_wrap=True,
        )
    for name, count in made["shortfall"].items():
        console.print(f"[yellow]short:[/yellow] {name} lacks {count}", highlight=False)
    for sample_id in made.get("stale_repairs", ()):
        console.print(
            f"[yellow]repair:[/yellow] {sample_id} is drawn otherwise now or no longer at all, so its repair was "
            "passed over; explain it again, or forget the repair by --undo",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"report: {made['report']}", highlight=False, soft_wrap=True)
