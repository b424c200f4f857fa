"""What the provenance of a mended sample says, for a person."""

from tailforge.tasks.report.histograms import show_number
from tailforge.tasks.report.provenance import read_origin

ROUTES = {
    "primitives": "components turned",
    "anchor": "region as the autoencoder draws it",
    "inpaint": "region drawn anew",
}


def describe_repair(provenance: str | None) -> dict[str, str]:
    """Labels and values for the report's tile; empty for a sample that was not mended."""
    told = read_origin(provenance).get("repair")
    if told is None:
        return {}
    fell = f"{told['score']} {show_number(told['before'])} to {show_number(told['after'])}"
    return {"Repair": f"{ROUTES[told['route']]}, {told['region']['source']}, {fell}", "Repair of": told["parent"]}
