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


@dataclass(frozen=True)
class Limits:
    """What one run of a build may spend: money, hours from its start, drawn images. None: no limit.

    `cost` counts the hours of accelerators and of the machine, by `prices`.
    """

    cost: float | None = None
    hours: float | None = None
    images: int | None = None
    prices: Prices = Prices()

    @property
    def timed(self) -> bool:
        """Return whether a limit grows with time."""
        return self.cost is not None or self.hours is not None
