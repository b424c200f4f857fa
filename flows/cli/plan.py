"""The command `tailforge plan`."""

from typing import Annotated

import typer

from tailforge.flows.cli.options import (
    DEFAULT_STORE,
    AcceleratorPrice,
    Json,
    MachinePrice,
    RecipeOrDataset,
    Set,
    Store,
    console,
    print_json,
    table,
)


def plan(
    recipe: RecipeOrDataset,
    store: Store = DEFAULT_STORE,
    set_: Set = [],  # noqa: B006
    workers: Annotated[int | None, typer.Option(min=1, help="Steps at a time; by default one per core.")] = None,
    accelerator_price: AcceleratorPrice = None,
    machine_price: MachinePrice = None,
    storage_price: Annotated[
        float | None, typer.Option(min=0, envvar="TAILFORGE_STORAGE_PRICE", help="Price per month of 10^9 bytes.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimate a build's steps, time, accelerator hours, bytes and cost from earlier receipts, with its uncertainty.

    Example: `tailforge plan workshop --set concepts.gear.requested=80 --machine-price 0.40`
    """
    from tailforge.flows.build.choose import require_build

    require_build(recipe, store, set_)
    from tailforge.flows.estimate.cost import plan_cost
    from tailforge.flows.estimate.show import PLAN_COLUMNS, describe, list_rows, to_json
    from tailforge.schemas.prices import Prices

    prices = Prices(accelerator_price, machine_price, storage_price)
    made, estimate = plan_cost(recipe, store, set_, workers, prices)
    if as_json:
        return print_json(to_json(made, estimate))
    table(f"{recipe} in {store}", list(PLAN_COLUMNS), [list(row) for row in list_rows(made, estimate)])
    console.print("\n".join(describe(made, estimate)), soft_wrap=True)
