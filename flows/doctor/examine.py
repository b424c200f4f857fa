"""Examine this machine for Tailforge: a page of findings, and what recipes of the catalog do here."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from tailforge.flows.doctor.devices import look_at_devices
from tailforge.flows.doctor.findings import Finding, examine
from tailforge.flows.doctor.libraries import look_at_libraries
from tailforge.flows.doctor.machine import look_at_machine, look_at_store
from tailforge.flows.doctor.services import look_at_browser, look_at_server
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.extras import when_called

try_recipes = when_called("flows.doctor.recipes", "try_recipes")


@dataclass(frozen=True)
class Examination:
    """All findings, and a row for each recipe of the catalog, as flows/doctor/recipes.py defines it."""

    findings: list[Finding]
    recipes: list[dict[str, Any]]

    @property
    def builds(self) -> bool:
        """Return whether builds work here: nothing is broken."""
        return all(each.state != "broken" for each in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return all as plain values."""
        findings = [asdict(each) for each in self.findings]
        return {"builds": self.builds, "findings": findings, "recipes": self.recipes}


def examine_machine(store: str, seconds: float) -> Examination:
    """Examine this machine; `seconds`: of drawing, to measure the speed of recipes. It raises nothing."""
    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        "machine": look_at_machine,
        "libraries": look_at_libraries,
        "torch": look_at_devices,
        "store": partial(look_at_store, store),
        "Prefect server": look_at_server,
        "browser": look_at_browser,
    }
    findings = [found for topic, look in looks.items() for found in examine(topic, look)]
    recipes: list[dict[str, Any]] = []
    findings += examine("recipes", partial(_look_at_recipes, seconds, recipes))
    return Examination(findings, recipes)


def _look_at_recipes(seconds: float, rows: list[dict[str, Any]]) -> Iterator[Finding]:
    """Yield whether the recipes of the catalog fit, and fill `rows`."""
    rows += [asdict(each) for each in try_recipes(seconds)]
    fit = [row["recipe"] for row in rows if row["fits"]]
    found = f"{count_of(len(fit), 'recipe')} of the catalog's {len(rows)} can be built here"
    if len(fit) == len(rows):
        yield Finding("recipes", "ok", found)
    else:
        yield Finding("recipes", "limited" if fit else "broken", found, "see the table of recipes")
