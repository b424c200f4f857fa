"""The command `tailforge plan`."""

from typing import Annotated

import typer

from tailforge.flows.cli.options import DEFAULT_STORE, Json, RecipeOrDataset, Set, Store, console, print_json, table

MONEY = "in any currency; without prices no cost is shown."


def plan(
    recipe: RecipeOrDataset,
    store: Store = DEFAULT_STORE,
    set_: Set = [],  # noqa: B006
    workers: Annotated[int | None, typer.Option(min=1, help="Steps at a time; one a core by default.")] = None,
    accelerator_price: Annotated[
        float | None,
        typer.Option(min=0, envvar="TAILFORGE_ACCELERATOR_PRICE", help=f"An hour of one accelerator, {MONEY}"),
    ] = None,
    machine_price: Annotated[
        float | None, typer.Option(min=0, envvar="TAILFORGE_MACHINE_PRICE", help="An hour of the machine.")
    ] = None,
    storage_price: Annotated[
        float | None, typer.Option(min=0, envvar="TAILFORGE_STORAGE_PRICE", help="A month of 10^9 bytes.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a build would do and cost: time, accelerator hours and bytes by earlier receipts, and how sure that is.

    Example: `tailforge plan workshop --set concepts.gear.wanted=80 --machine-price 0.40`
    """
    from tailforge.flows.estimate.cost import Prices, plan_cost
    from tailforge.flows.estimate.show import PLAN_COLUMNS, describe, list_rows, to_json

    prices = Prices(accelerator_price, machine_price, storage_price)
    made, estimate = plan_cost(recipe, store, set_, workers, prices)
    if as_json:
        return print_json(to_json(made, estimate))
    table(f"{recipe} in {store}", list(PLAN_COLUMNS), [list(row) for row in list_rows(made, estimate)])
    console.print("\n".join(describe(made, estimate)), soft_wrap=True)
