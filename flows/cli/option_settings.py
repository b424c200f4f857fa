"""Make settings of the options of a command. Errors name the options."""

import re
from typing import Any

from pydantic import ValidationError

from tailforge.schemas.checks.mistakes import describe_word, refuse_options
from tailforge.schemas.documents.shown import show
from tailforge.schemas.errors import ExplanationError, UserError
from tailforge.schemas.explanation import MOST_LAYER, MOST_MEMORY_GIB, MOST_STEP, ExplainSettings
from tailforge.schemas.prices import Limits, Prices
from tailforge.schemas.settings.workers import WorkerSettings

ALL = "all"
ORDER = re.compile(r"[0-9]{1,2}")


def worker_settings(runner: str, workers: int | None, devices: str | None, ray_address: str | None) -> WorkerSettings:
    """Return the worker settings that the options name. RAY_ADDRESS without --runner ray has no effect.

    Errors: RecipeError naming the options whose values the settings refuse.
    """
    named = tuple(name.strip() for name in devices.split(",")) if devices else ()
    address = ray_address if runner == "ray" else None
    given = {"runner": runner, "workers": workers, "devices": named, "ray_address": address}
    try:
        return WorkerSettings.model_validate(given)
    except ValidationError as error:
        raise refuse_options(error, WorkerSettings, given) from error


def run_limits(
    cost: float | None,
    hours: float | None,
    images: int | None,
    accelerator_price: float | None,
    machine_price: float | None,
) -> Limits | None:
    """Return the limits of a run; None without any. Errors: UserError for a limit of cost without a price."""
    if cost is not None and accelerator_price is None and machine_price is None:
        raise UserError("--max-cost needs a price: give --accelerator-price or --machine-price, per hour")
    found = Limits(cost, hours, images, Prices(accelerator_price, machine_price))
    return found if found != Limits(prices=found.prices) else None


def parse_settings(
    target: str, layer: str | None, step: int | None, order: str, grid: int, memory: float
) -> ExplainSettings:
    """Return the settings of an explanation from the options. Errors: ExplanationError for a value out of bounds."""
    if target not in ("decoder", "step"):
        raise ExplanationError(f"--target {show(target)}; possible are decoder and step")
    if order != ALL and not (ORDER.fullmatch(order) and 1 <= int(order) <= 36):
        raise ExplanationError(f"--order {show(order)}; give a number from 1 to 36, or {ALL}")
    if step is not None and target != "step":
        raise ExplanationError("--step needs --target step; add that, or leave --step out")
    if step is not None and step > MOST_STEP:
        raise ExplanationError(f"--step: must be {MOST_STEP} or less; found {step}")
    if layer is not None and len(layer) > MOST_LAYER:
        raise ExplanationError(f"--layer {show(layer)}: no layer has so long a name")

    if not 1 <= grid <= 64:
        raise ExplanationError(f"--grid: must be 64 or less; found {grid}")
    if not 0 < memory <= MOST_MEMORY_GIB:
        bound = f"{MOST_MEMORY_GIB} or less" if memory > 0 else "above 0"
        raise ExplanationError(f"--memory: must be {bound}; found {memory:g}")

    return ExplainSettings(
        target=target,
        layer=layer,
        step=step,
        order=None if order == ALL else int(order),
        grid=grid,
        memory_gib=memory,
    )


def describe_number(error: Any) -> str | None:
    """Return the option, its bound and the word, for a number out of bounds; else None."""
    cause, option = error.__cause__, getattr(error, "param", None)
    if option is None or not isinstance(cause, ValidationError):
        return None
    item = cause.errors(include_url=False)[0]
    return None if item["type"] == "value_error" else f"{option.opts[0]}: {describe_word(cause, str(item['input']))}"
