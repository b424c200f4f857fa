"""Commands that push versions and models to the Hugging Face Hub, and pull versions from there."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from tailforge.flows.cli.completion import complete_datasets
from tailforge.flows.cli.options import DEFAULT_STORE, Json, Store, console, print_json
from tailforge.flows.terminal.stopping import run_stoppable
from tailforge.schemas.documents.shown import count_of, visible


def push(
    what: Annotated[
        str,
        typer.Argument(
            help="Dataset, dataset@version or recipe, or the folder of a model.", autocompletion=complete_datasets
        ),
    ],
    repository: Annotated[str, typer.Argument(help="Repository of the Hub: OWNER/NAME. It is made if there is none.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody read the repository.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Prepare all files, and send nothing.")] = False,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Push a version, or a model, to the Hugging Face Hub, with a tag. The token is read from HF_TOKEN.

    Example: `tailforge push workshop OWNER/workshop --dry-run`
    """
    from tailforge.catalog.hub.push import is_model, push_model, push_version
    from tailforge.catalog.store import Store as OpenedStore
    from tailforge.flows.build.choose import split_reference

    if is_model(Path(what)):
        made = run_stoppable(push_model, Path(what).resolve(), repository, public=public, dry_run=dry_run)
    else:
        name, version = split_reference(what)
        opened = OpenedStore.open(store)
        made = run_stoppable(push_version, opened, name, version, repository, public=public, dry_run=dry_run)
    print_json(made) if as_json else print_push(made)


def print_push(made: dict[str, Any]) -> None:
    """Print what was pushed for a person."""
    label, place = (visible(made["name"]), "bold"), visible(f"{made['repository']}@{made['tag']}")
    if "new" in made and not made["new"]:
        console.print(Text.assemble("unchanged: ", label, f" is already {place}"), soft_wrap=True)
    else:
        sent = f"{count_of(made['files'], 'file')}, {count_of(made['bytes'], 'byte')}"
        verb = "would push" if made.get("dry_run") else "pushed"
        console.print(Text.assemble(f"{verb} ", label, f" to {place}: {sent}"), soft_wrap=True)
    if not made.get("dry_run"):
        seen = "private" if made["private"] else "public"
        console.print(visible(f"{made['url']} ({seen}, commit {made['commit']})"), soft_wrap=True)
    console.print(f"sha256 {made['sha256']}", soft_wrap=True)


def pull(
    repository: Annotated[str, typer.Argument(help="OWNER/NAME, or OWNER/NAME@VERSION; by default the latest.")],
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Pull a version from the Hugging Face Hub into a store, after every byte of it was checked.

    Example: `tailforge pull OWNER/workshop`
    """
    from tailforge.catalog.store import Store as OpenedStore
    from tailforge.tasks.publish.pulled import pull_version

    name, _, version = repository.partition("@")
    made = run_stoppable(pull_version, OpenedStore.open(store, create=True), name, version or "latest")
    if as_json:
        return print_json(made)
    new = "pulled" if made["new"] else "unchanged, already there:"
    what = f", {count_of(made['samples'], 'image')}, in {made['uri']}"
    console.print(Text.assemble(f"{new} ", (visible(made["name"]), "bold"), visible(what)), soft_wrap=True)
    console.print(f"sha256 of dataset.json: {made['sha256']}", soft_wrap=True)
