"""The command `tailforge audit`."""

from dataclasses import asdict
from typing import Annotated

import typer

from tailforge.flows.cli.options import (
    DEFAULT_STORE,
    Json,
    RecipeOrDataset,
    Set,
    Store,
    WorkerCount,
    console,
    print_json,
    table,
)
from tailforge.flows.terminal.stopping import run_stoppable
from tailforge.schemas.documents.shown import visible

COLUMNS = ["concept", "drawn", "right", "share", "95 % interval", "seconds per image", "seconds per right image"]


def audit(
    recipe: RecipeOrDataset,
    store: Store = DEFAULT_STORE,
    images: Annotated[int, typer.Option(min=1, max=10_000, help="Images drawn per concept.")] = 16,
    verifier: Annotated[
        str | None,
        typer.Option(help="Classifier that knows the concepts by name; by default the recipe's quality.verifier."),
    ] = None,
    set_: Set = [],  # noqa: B006
    workers: WorkerCount = None,
    as_json: Json = False,
) -> None:
    """Find out which concepts the generator fails on, by a few plain images each, and what a search would cost.

    Example: `tailforge audit workshop_rare --verifier catalog:workshop-teacher`
    """
    from tailforge.flows.build.audit import audit_recipe
    from tailforge.flows.cli.option_settings import worker_settings

    settings = worker_settings("threads", workers, None, None)
    found = run_stoppable(audit_recipe, recipe, store, images, verifier, set_, settings)
    if as_json:
        return print_json(asdict(found))
    rows = [
        [
            each.concept,
            each.drawn,
            each.right,
            f"{each.share:.0%}",
            f"{each.low:.0%} to {each.high:.0%}",
            f"{each.seconds:.2f}",
            "none was right" if each.per_right is None else f"{each.per_right:.2f}",
        ]
        for each in found.concepts
    ]
    table(f"{found.version}, by {found.score}", COLUMNS, rows)
    searches = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in found.engines.items())
    console.print(f"expected per image of a search: {searches}; its share of right images is not known before it runs")
    console.print(f"pictures: {visible(found.report)}", soft_wrap=True)
