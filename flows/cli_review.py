"""The command that lets a person look at samples; flows/cli.py registers it. See there what a command may do."""

import sys
from typing import Annotated

import typer

from flows.cli_parts import DEFAULT_STORE, DatasetName, Store


def review(
    dataset: DatasetName,
    store: Store = DEFAULT_STORE,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 for a free one.")] = 0,
    reviewer: Annotated[str, typer.Option(envvar="USER", help="Who decides, for the record.")] = "",
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Accept and reject samples in a page on this machine; the next build honours what was decided.

    Example: `tailforge review workshop --no-open`
    """
    from flows.review_server import serve_review

    def tell(address: str) -> None:
        sys.stdout.write(f"{address}\nctrl-C stops; the next build honours what was decided\n")
        sys.stdout.flush()
        if open_:
            typer.launch(address)

    counts = serve_review(dataset, store, port, reviewer[:80], tell)
    sys.stdout.write(f"decisions on this dataset: {counts['accept']} accepted, {counts['reject']} rejected\n")
