"""Prices of machines and storage, as a person gives them."""

from dataclasses import dataclass

HOUR_SECONDS = 3600.0


@dataclass(frozen=True)
class Prices:
    """Prices in one currency: per hour of an accelerator, per hour of the machine, per month of 10^9 bytes.

    None: the price is unknown.
    """

    accelerator_hour: float | None = None
    machine_hour: float | None = None
    gigabyte_month: float | None = None
