"""The command `tailforge plan`."""

from typing import Annotated, Any

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
    memory: Annotated[
        bool, typer.Option("--memory", help="Also predict the device's peak memory, and refuse what cannot fit.")
    ] = False,
    accelerator_memory: Annotated[
        float | None, typer.Option(min=0.1, max=10_000, help="GB of another accelerator, for --memory.")
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
    needs = None
    # The prediction loads torch, which all else here does without.
    if memory or accelerator_memory is not None:
        from tailforge.flows.estimate.memory import plan_memory

        needs = plan_memory(recipe, store, set_, accelerator_memory)
    if as_json:
        print_json(to_json(made, estimate) | ({} if needs is None else {"memory": needs.to_json()}))
    else:
        table(f"{recipe} in {store}", list(PLAN_COLUMNS), [list(row) for row in list_rows(made, estimate)])
        console.print("\n".join(describe(made, estimate)), soft_wrap=True)
    if needs is not None:
        _show_memory(needs, as_json)


def _show_memory(needs: Any, as_json: bool) -> None:
    """Print the predicted memory for a person, and refuse what cannot fit. Errors: RecipeError."""
    from tailforge.flows.estimate.memory import MEMORY_COLUMNS, describe_memory, list_phases, require_memory

    if not as_json:
        table("predicted memory", list(MEMORY_COLUMNS), [list(row) for row in list_phases(needs)])
        console.print(describe_memory(needs), soft_wrap=True)
    require_memory(needs)
