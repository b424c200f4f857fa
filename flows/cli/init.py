"""The command `tailforge init`. flows/cli/commands.py registers it and says what a command may do."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tailforge.flows.cli.options import DEFAULT_STORE, Json, Store, console, print_json, table
from tailforge.flows.terminal.stopping import run_stoppable
from tailforge.schemas.documents.shown import count_of, visible
from tailforge.schemas.errors import RecipeError

SHOWN = 20  # classes in the printed table

Generator = Annotated[
    str | None,
    typer.Option(
        help="Generator that draws: a folder, catalog:NAME or owner/name@commit. The build adapts it, or searches its "
        "noise if its own CLIP model knows the rare classes. By default a new network for photographs of at most 64 "
        "pixels, else the embedded generator."
    ),
]
Fill = Annotated[
    str,
    typer.Option(help="Fill each class up to the training photographs of the median or largest class, or to a number."),
]
License = Annotated[
    str,
    typer.Option(
        "--license",
        help="Licence of the photographs, which versions state: an SPDX identifier such as CC-BY-4.0, or a name.",
    ),
]


def init(
    images: Annotated[
        str,
        typer.Argument(
            help="Photographs with classes: a folder with one subfolder per class, a CSV or Parquet file, a COCO file, "
            "WebDataset tars, or dataset@version."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write, new or empty; NAME-recipe in the current folder by default.")
    ] = None,
    generator: Generator = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="Prompt with {concept} and other slots, for a named generator; see --word."),
    ] = None,
    words: Annotated[
        list[str],
        typer.Option("--word", help="Words of a slot of --prompt, slot=word,word; may be repeated."),
    ] = [],  # noqa: B006
    fill: Fill = "median",
    references: Annotated[int, typer.Option(min=1, max=1000, help="Most reference photographs per class.")] = 8,
    label_column: Annotated[str | None, typer.Option(help="A table's column of classes; label by default.")] = None,
    split_column: Annotated[str | None, typer.Option(help="A table's column of splits; split by default.")] = None,
    group_column: Annotated[
        str | None, typer.Option(help="A table's column of groups, which share a split; group by default.")
    ] = None,
    group_pattern: Annotated[
        str | None,
        typer.Option(help="Regular expression; its part in parentheses is the group in a file name."),
    ] = None,
    measured: Annotated[
        int, typer.Option(min=1, help="Most photographs to decode for twins, sizes, references and gates.")
    ] = 10_000,
    license_: License = "unknown",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the splits and of the recipe.")] = 1,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Look at photographs with a long tail and write a recipe that fills it, with a page about them.

    Example: `tailforge init photographs --out start`
    """
    from tailforge.catalog.images.tables import Columns
    from tailforge.flows.photographs.inspect import Question
    from tailforge.flows.photographs.start import start_from_photographs
    from tailforge.flows.photographs.wording import read_prompts
    from tailforge.schemas.settings.licences import parse_licence

    if prompt is not None and generator is None:
        raise RecipeError("--prompt: a new network knows captions of photographs alone; name a --generator with it")
    prompts, own = read_prompts(prompt, words), parse_licence(license_)
    columns = Columns(label=label_column, split=split_column, group=group_column)
    question = Question(images, store, columns, group_pattern, fill, references, measured, seed, license=own)
    made = run_stoppable(start_from_photographs, question, out, generator, prompts)
    print_json(made) if as_json else print_start(made)


def print_start(made: dict[str, Any]) -> None:
    """Print what was found and what comes next for a person."""
    rare = [each for each in reversed(made["classes"]) if each["requested"]]
    rows = [
        [each["name"], each["splits"].get("train", 0), each["requested"], each["references"]] for each in rare[:SHOWN]
    ]
    title = f"{count_of(made['photographs'], 'photograph')}, {count_of(len(made['classes']), 'class')}, the rarest:"
    table(title, ["class", "in train", "requested", "references"], rows)

    if made["search"]:
        console.print(f"search: {made['search']}", soft_wrap=True, markup=False)
    for line in made["findings"]:
        console.print(visible(line), soft_wrap=True, markup=False)
    if made["measured"] < made["photographs"]:
        console.print(f"decoded: {made['measured']:,} of them, rare classes first", soft_wrap=True)
    console.print(f"page: {made['page']}", soft_wrap=True, markup=False)
    console.print("next:", soft_wrap=True)
    for line in made["commands"]:
        console.print(f"  {line}", soft_wrap=True, markup=False)
