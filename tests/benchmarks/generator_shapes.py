"""Shapes of the embedded generator's pictures, and their distance from renders; see generator.py.

Renders that no training saw are measured in the same way, as the ceiling: as many as there are pictures, of the same
parts, materials and surfaces.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.embedded.measure import Request
from tailforge.tasks.methods.intervals import wilson_interval
from tailforge.tasks.methods.workshop import HEAD_PARTS, MATERIALS, PARTS, SURFACES, Scene, render
from tailforge.tasks.models.judges import Judges
from tests.benchmarks.geometry import GEOMETRY, count_corners
from tests.benchmarks.pages import row
from tests.benchmarks.seedselect.rows import features_of, frechet_to
from tests.benchmarks.training.measures import neighbourhoods

RENDER_SEED = 4_000_000  # first seed of renders; no training uses these
REAL_PER_PART = 100  # held-out renders per part, of which features are compared
HEADING = "## Shapes"

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


def render_like(labels: Labels, seed: int) -> Images:
    """Renders of labels [N, 3], with seeds from `seed` on."""
    return np.stack(
        [
            render(Scene(PARTS[part], MATERIALS[material], SURFACES[surface], seed + number)).image
            for number, (part, material, surface) in enumerate(labels.tolist())
        ]
    )


def measure_shapes(requests: list[Request], images: Images, judges: Judges) -> list[dict[str, Any]]:
    """Rows of pictures and of the ceiling: geometry and six corners by part, Frechet distance and coverage."""
    labels = np.array([request.labels for request in requests])
    labels, images = labels[chosen := labels[:, 0] < len(HEAD_PARTS)], images[chosen]
    turns = [(p, t % len(MATERIALS), t % len(SURFACES)) for p in range(len(HEAD_PARTS)) for t in range(REAL_PER_PART)]
    real = features_of(judges, render_like(np.array(turns), RENDER_SEED))
    like = render_like(labels, RENDER_SEED + 10_000)
    rows = [row("head", "pictures_of_shapes", len(images), "pictures")]
    for prefix, shown in (("", images), ("renders/", like)):
        rows += _measure_geometry(prefix, labels[:, 0], judges.segment(shown))
        features = features_of(judges, shown)
        rows.append(row(f"{prefix}head", "frechet", frechet_to(features, real), "distance"))
        rows.append(row(f"{prefix}head", "coverage", neighbourhoods(features, real)["coverage"], "share"))
    return rows


def _measure_geometry(prefix: str, parts: Labels, masks: NDArray[np.bool_]) -> list[dict[str, Any]]:
    right = np.array([GEOMETRY[PARTS[part]](mask) for part, mask in zip(parts, masks, strict=True)])
    arms = {part: right[parts == PARTS.index(part)] for part in HEAD_PARTS} | {"head": right}
    rows = [_share(prefix + arm, "geometry", found) for arm, found in arms.items()]
    nuts = masks[parts == PARTS.index("hex nut")]
    return [*rows, _share(f"{prefix}hex nut", "six_corners", np.array([count_corners(mask) == 6 for mask in nuts]))]


def _share(arm: str, metric: str, right: NDArray[np.bool_]) -> dict[str, Any]:
    return row(arm, metric, float(right.mean()), "share", *wilson_interval(int(right.sum()), len(right)))


def describe_shapes(rows: list[dict[str, Any]]) -> str:
    """Section of the page, from its first heading on; empty before any measurement."""
    found = {(each["arm"], each["metric"]): each for each in rows}
    if ("head", "pictures_of_shapes") not in found:
        return ""

    def show(arm: str, metric: str) -> str:
        each = found[arm, metric]
        return f"{each['value']:.1%} ({each['low']:.1%} to {each['high']:.1%})"

    lines = [f"| {part} | {show(part, 'geometry')} | {show(f'renders/{part}', 'geometry')} |" for part in HEAD_PARTS]
    lines.append(f"| all | {show('head', 'geometry')} | {show('renders/head', 'geometry')} |")
    value = {key: each["value"] for key, each in found.items()}
    return f"""{HEADING}

A test by the independent segmenter's mask alone: hex nuts have six corners and a bore; gears are closed rings of 8 to
12 even teeth; springs have 4 or 5 even turns on either side; washers are round rings. The other parts must have the
right number of holes, which is a weaker test. On the renderer's own masks every test is right for at least 98 % of 100
renders. Here {value["head", "pictures_of_shapes"]:.0f} pictures of common parts were tested, and as many renders that
no training saw. Renders miss only by the segmenter's mistakes, so they are the ceiling. Intervals: Wilson, 95 %.

| part | pictures | renders |
|---|---|---|
{chr(10).join(lines)}

Six corners alone: hex nuts {show("hex nut", "six_corners")}, renders {show("renders/hex nut", "six_corners")}.

Distance to {REAL_PER_PART * len(HEAD_PARTS)} held-out renders of common parts, by the classifier's features: Frechet
distance {value["head", "frechet"]:.2f} (renders {value["renders/head", "frechet"]:.2f}), coverage
{value["head", "coverage"]:.1%} (renders {value["renders/head", "coverage"]:.1%}). Both depend on the number of
pictures.
"""
