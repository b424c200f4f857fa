"""The command `tailforge review`. flows/cli/commands.py registers it."""

import getpass
import sys
from typing import Annotated

import typer

from tailforge.flows.cli.options import DEFAULT_STORE, Set, Store
from tailforge.flows.terminal.stopping import leave_signals
from tailforge.schemas.errors import UserError


def review(
    reference: Annotated[str, typer.Argument(help="Dataset, dataset@version or recipe.")],
    build: Annotated[
        bool, typer.Option("--build", help="Review the samples that a build has drawn so far, published or not.")
    ] = False,
    set_: Set = [],  # noqa: B006
    store: Store = DEFAULT_STORE,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 chooses a free one.")] = 0,
    reviewer: Annotated[
        str,
        typer.Option(help="Name of the person who decides, kept with each decision.", show_default="the user's name"),
    ] = "",
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Accept and reject samples on a page of this machine; the next build follows the decisions.

    Example: `tailforge review workshop --no-open`, during a build `tailforge review workshop --build`
    """
    from tailforge.flows.samples.review import open_version
    from tailforge.flows.samples.review_server import serve_review

    if build:
        from tailforge.flows.samples.review_build import open_build

        reviewed = open_build(reference, store, set_)
    elif set_:
        raise UserError("--set changes a recipe; give --build with it")
    else:
        reviewed = open_version(reference, store)

    def tell(address: str) -> None:
        """Print the address and open the page."""
        sys.stdout.write(f"{address}\nctrl-C stops; the next build follows the decisions\n")
        sys.stdout.flush()
        if open_:
            typer.launch(address)

    with leave_signals():
        counts = serve_review(reviewed, port, (reviewer or name_user())[:80], tell)
    sys.stdout.write(f"decisions on this dataset: {counts['accept']} accepted, {counts['reject']} rejected\n")


def name_user() -> str:
    """Return the name of the user who runs this process, "" where the system knows only a number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
