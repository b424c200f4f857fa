"""Describe the provenance of a repaired sample."""

from tailforge.tasks.report.histograms import show_number
from tailforge.tasks.report.provenance import read_origin

ROUTES = {
    "primitives": "changed components",
    "anchor": "region from the autoencoder's reconstruction",
    "inpaint": "region drawn again",
}


def describe_repair(provenance: str | None) -> dict[str, str]:
    """Return labels and values for the report's tile; empty for a sample without repair."""
    told = read_origin(provenance).get("repair")
    if told is None:
        return {}
    fell = f"{told['score']} {show_number(told['before'])} to {show_number(told['after'])}"
    return {"Repair": f"{ROUTES[told['route']]}, {told['region']['source']}, {fell}", "Repair of": told["parent"]}
