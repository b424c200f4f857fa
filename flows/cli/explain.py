"""The command `tailforge explain`. flows/cli/commands.py registers it."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.progress import Progress

from tailforge.flows.cli.options import DEFAULT_STORE, Json, RecipeFolder, Store, console, print_json, table
from tailforge.flows.terminal.stopping import run_stoppable
from tailforge.schemas.documents.shown import count_of, show
from tailforge.schemas.errors import ExplanationError
from tailforge.schemas.under_way import tell

BOX = re.compile(",".join([r"\s*(-?[0-9]{1,6})\s*"] * 4))
LARGE_TRUNCATED = 0.2  # sound decompositions reached at most 0.11, leaking ones at least 0.9


def explain(
    sample_id: Annotated[str, typer.Argument(help="Accepted or rejected sample: its id of 16 hex digits.")],
    dataset: Annotated[str, typer.Option(help="Dataset, dataset@version or recipe.")],
    box: Annotated[str | None, typer.Option(help="Region: left,top,right,bottom in pixels.")] = None,
    mask: Annotated[
        str | None, typer.Option(help="Region: `concept` for the sample's own mask, or an image, black outside.")
    ] = None,
    gate: Annotated[
        str | None,
        typer.Option(help="Region that this gate blames; by default the gate that rejected the sample."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair the region; the next build uses the result.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Remove the sample's repair and do nothing else.")] = False,
    target: Annotated[
        str, typer.Option(help="Network to explain: decoder, or step for one denoising step of a UNet.")
    ] = "decoder",
    layer: Annotated[str | None, typer.Option(help="Layer with the feature to decompose; by default the last.")] = None,
    step: Annotated[
        int | None, typer.Option(min=1, help="Number of the denoising step for --target step; by default the last.")
    ] = None,
    order: Annotated[
        str, typer.Option(help="Most patches per component, or `all` for every set of patches (nine patches at most).")
    ] = "2",
    grid: Annotated[int, typer.Option(min=1, help="Patches per side of the image.")] = 6,
    memory: Annotated[float, typer.Option(help="Most memory for the features, in GiB.")] = 4.0,
    store: Store = DEFAULT_STORE,
    folder: RecipeFolder = None,
    as_json: Json = False,
) -> None:
    """Show which components of the generator's feature drew a region of a sample, and repair the region.

    Example: `tailforge explain 0123456789abcdef --dataset workshop --box 10,20,30,40 --repair`
    """
    from tailforge.flows.cli.option_settings import parse_settings
    from tailforge.flows.samples.explain import explain_sample, undo_repair

    if undo:
        return print_undone(undo_repair(sample_id, dataset, store), as_json)

    settings = parse_settings(target, layer, step, order, grid, memory)
    with show_progress(as_json) as observe:
        found = run_stoppable(
            explain_sample,
            sample_id,
            dataset,
            store,
            settings,
            folder,
            box=None if box is None else parse_box(box),
            mask=mask,
            gate=gate,
            repair=repair,
            observe=observe,
        )
    print_json(found) if as_json else print_explanation(found)


@contextmanager
def show_progress(as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal inside the block, and yield the function that reports (images done, images in all)."""
    with Progress(console=console, transient=True, disable=as_json or not console.is_terminal) as progress:
        bar = progress.add_task("solving", total=None)

        def observe(done: int, total: int) -> None:
            """Report progress to the heartbeat and to the bar."""
            tell("image", done, total)
            progress.update(bar, completed=done, total=total)

        yield observe


def parse_box(text: str) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom in pixels. Errors: ExplanationError unless the text is four whole numbers."""
    found = BOX.fullmatch(text)
    if found is None:
        raise ExplanationError(
            f"--box {show(text)}; give left,top,right,bottom in whole pixels, for example 10,20,30,40"
        )
    left, top, right, bottom = map(int, found.groups())
    return left, top, right, bottom


def print_undone(found: dict[str, Any], as_json: bool) -> None:
    """Print that the next build uses the sample without its repair."""
    if as_json:
        return print_json(found)
    console.print(f"the next build of {found['dataset']} uses {found['sample_id']} without repair")


def print_explanation(found: dict[str, Any]) -> None:
    """Print an explanation for a person."""
    columns = ["component", "patches", "strength", "inside own field", "inside the region"]
    rows = [
        [
            row["component"],
            ", ".join(map(str, row["patches"])),
            f"{row['strength']:.3g}",
            f"{row['containment']:.0%}",
            "" if row["region_share"] is None else f"{row['region_share']:.0%}",
        ]
        for row in found["first"]
    ]
    title = f"behind the region ({found['region']})" if found["region"] else "strongest components"
    table(f"{found['sample_id']} of {found['dataset']}: {title}", columns, rows)

    lines = [
        f"{count_of(found['components'], 'component')} of {found['layer']} over "
        f"{count_of(len(found['players']), 'patch')}, "
        f"{found['reported']} passed the residual gate",
        *describe_doubt(found),
        *describe_repair(found),
        f"ledger: {found['ledger']} and {found['arrays']}",
        f"page: {found['page']}",
    ]
    for line in lines:
        console.print(line, soft_wrap=True)


def describe_doubt(found: dict[str, Any]) -> list[str]:
    """Return a warning if the ledger leaves out many components; see docs/benchmarks/primitives.md."""
    if found["truncated_share"] <= LARGE_TRUNCATED:
        return []
    share = f"{found['truncated_share']:.2f} of the feature's distance from the baseline"
    return [f"doubtful: components of more patches hold {share}; the components shown may leak out of their patches"]


def describe_repair(found: dict[str, Any]) -> list[str]:
    """Return lines on the outcome of a repair; empty if no repair was requested."""
    if "repair" not in found:
        return []
    told = found["repair"]
    tries = "; ".join(
        f"{each['route']} {each['score']:.3g}"
        + ("" if each["psnr_outside"] is None else f" at {each['psnr_outside']:.1f} dB outside")
        for each in told["attempts"]
    )

    start = f"{told['score']} {told['before']:.3g}"
    if told["route"] == "none":
        return [f"repair: no attempt passed, so the sample stays unchanged ({start}; {tries})"]
    return [
        f"repair: by {told['route']}, {start} -> {told['after']:.3g} ({tries})",
        f"the next build uses it as {found['repaired_id']} if it passes the gates; --undo removes the repair",
    ]
