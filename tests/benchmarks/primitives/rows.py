"""Rows of the benchmark of regional primitives from its cells; see primitives.py."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from tailforge.tasks.methods.intervals import wilson_interval
from tests.benchmarks.pages import row
from tests.benchmarks.primitives.measures import area
from tests.benchmarks.seedselect.rows import over_seeds

TOP = 3
HEADLINE = "block_"  # held-out sets that drop neighbours: scattered ones hardly interact and are easy
DECODERS = {"whole": "ours", "random": "random_weights"}  # kinds of cells with whole images, and their arms

OF = {"truncated": "of |f - f0|"}  # may be longer than f - f0

Cell = Mapping[str, Any]
Cells = Mapping[str, Sequence[Cell]]  # by kind
Rows = list[dict[str, Any]]
Values = Mapping[tuple[str, str], Sequence[float]]  # by arm and metric


def load_cells(work: Path) -> Cells:
    """What was made, in the order of numbers."""
    found: dict[str, list[Cell]] = defaultdict(list)
    for file in (work / "cells").glob("*.json"):
        cell = json.loads(file.read_text())
        found[cell["kind"]].append(cell)
    return {kind: sorted(cells, key=lambda cell: int(cell["number"])) for kind, cells in found.items()}


def make_rows(cells: Cells) -> Rows:
    made = (planted_rows, sample_rows, single_rows, transfer_rows, culprit_rows, repair_rows)
    return [each for rows_of in made for each in rows_of(cells)]


def planted_rows(cells: Cells) -> Rows:
    """The worst of all plantings."""
    worst = {name: max(cell["errors"][name] for cell in cells["planted"]) for name in ("exact", "default")}
    seeds = {"seeds": numbers(cells["planted"])}
    return [
        row("ours", "planted_error", worst["exact"], "share of the largest") | seeds,
        row("ours/default_solver", "planted_error", worst["default"], "share of the largest") | seeds,
    ]


def numbers(cells: Sequence[Cell]) -> list[int]:
    return [int(cell["number"]) for cell in cells]


def sample_rows(cells: Cells) -> Rows:
    """Means over samples of what is measured a sample."""
    rows: Rows = []
    readers: list[tuple[str, Callable[[str, Cell], Iterable[tuple[str, str, str, float]]]]] = [
        ("whole", read_whole),
        ("random", read_whole),
        ("nine", read_nine),
        ("stable", read_stable),
        ("deep", read_deep),
        ("cost", read_cost),
    ]
    for kind, read in readers:
        found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for cell in cells.get(kind, ()):
            for arm, metric, unit, value in read(DECODERS.get(kind, "ours"), cell):
                found[arm, metric, unit].append(value)
        seeds = {"seeds": numbers(cells.get(kind, ()))}
        rows += [over_seeds(arm, metric, values, unit) | seeds for (arm, metric, unit), values in found.items()]
    return rows


def single_rows(cells: Cells) -> Rows:
    """What differs most between samples, sample by sample, and again of those that were solved more tightly."""
    rows: Rows = []
    found = [(f"sample_{cell['number']}", cell) for cell in cells["whole"]]
    found += [(f"sample_{cell['sample']}/tolerance_{cell['tolerance']:g}", cell) for cell in cells.get("tight", ())]
    for name, cell in found:
        values = {
            "containment": (cell["containment"]["ours"], "share"),
            "salient": (cell["salient"], "components"),
            "truncated": (cell["shares"]["truncated"], "of |f - f0|"),
            "residual_all": (cell["residual_all"], "share"),
            "seconds_36": (cell["seconds"], "processor s"),
        }
        rows += [row(f"ours/{name}", metric, value, unit) for metric, (value, unit) in values.items()]
    for kind, arm in DECODERS.items():
        values_of = [cell["containment"]["ours"] for cell in cells.get(kind, ())]
        rows.append(row(arm, "containment_median", float(np.median(values_of)), "share"))
    return rows


def rename(arm: str, decoder: str) -> str:
    """The arm of the trained decoder, or of the one with random weights."""
    return arm if decoder == "ours" else decoder if arm == "ours" else f"{decoder}/{arm}"


def read_whole(decoder: str, cell: Cell) -> Iterable[tuple[str, str, str, float]]:
    """Every figure of one whole image."""
    for arm, value in cell["containment"].items():
        yield rename(arm, decoder), "containment", "share", value
    for curve in cell["curves"]:
        for metric in ("deletion", "insertion"):
            yield rename(curve["arm"], decoder), f"{metric}_auc", "share", area(curve[metric])
    for (arm, metric), values in collect_held_out(cell).items():
        yield rename(arm, decoder), metric, "share", float(np.mean(values))
    for arm, value in cell["components_90"].items():
        if decoder == "ours" or arm == "ours":
            yield rename(arm, decoder), "components_90", "cells" if arm == "gradient_map" else "components", value
    for name, value in (*cell["orders"].items(), *cell["shares"].items()):
        yield rename("ours", decoder), f"order_{name}" if name.isdigit() else name, OF.get(name, "share"), value
    for name in ("salient", "reported", "seconds"):
        unit = {"salient": "components", "reported": "share", "seconds": "processor s"}[name]
        yield rename("ours", decoder), "seconds_36" if name == "seconds" else name, unit, cell[name]


def collect_held_out(cell: Cell) -> Values:
    """Errors of held-out sets over |f - f0|, and over |u(N) - u(S)|, by arm; of each kind of set and of all blocks."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for each in cell["held_out"]:
        for arm, error in each["errors"].items():
            shares = {
                "heldout_additivity": error / each["change"],
                "heldout_remaining": error / each["errors"]["no_change"],
            }
            for metric, value in shares.items():
                if each["set"].startswith(HEADLINE):
                    found[arm, metric].append(value)
                found[arm, f"{metric}_{each['set']}"].append(value)
    return found


def read_nine(arm: str, cell: Cell) -> Iterable[tuple[str, str, str, float]]:
    """All sets of nine patches."""
    yield arm, "seconds_9", "processor s", cell["seconds"]
    yield f"{arm}/nine_patches", "components_90", "components", cell["components_90"]
    for name, value in cell["orders"].items():
        if name.isdigit():
            yield f"{arm}/nine_patches", f"order_{name}", "share", value


def read_stable(arm: str, cell: Cell) -> Iterable[tuple[str, str, str, float]]:
    """Agreement with the reference under each variation; the headline is the lowest of them."""
    yield arm, "stability", "rank correlation", min(each["spearman"] for each in cell["variants"].values())
    for name, each in cell["variants"].items():
        yield f"{arm}/{name}", "stability", "rank correlation", each["spearman"]
        yield f"{arm}/{name}", "stability_cosine", "cosine", each["cosine"]
    yield "nmf", "stability_cosine", "cosine", cell["nmf"]


def read_deep(arm: str, cell: Cell) -> Iterable[tuple[str, str, str, float]]:
    """One block earlier."""
    for weights, found in cell["containment"].items():
        prefix = arm if weights == "trained" else weights
        for name, value in found.items():
            yield f"{prefix}/earlier" if name == "ours" else f"{prefix}/earlier/{name}", "containment", "share", value


def read_cost(_arm: str, cell: Cell) -> Iterable[tuple[str, str, str, float]]:
    """The cheap baselines on a whole image; the share of its patches that a part of a factorisation lies on."""
    yield "nmf", "covered", "share", cell["covered"]
    for arm, value in cell["seconds"].items():
        yield arm, "seconds_36", "processor s", value


def transfer_rows(cells: Cells) -> Rows:
    """The share of the strongest patterns of one sample among the strongest of another, over all pairs of samples."""
    rows: Rows = []
    for kind, arm in DECODERS.items():
        made = cells.get(kind, ())
        tops = [[tuple(field) for field in cell["strongest"]] for cell in made]
        found: dict[str, list[float]] = defaultdict(list)
        for one, other in permutations(tops, 2):
            found["transfer"].append(shared(one[:20], other[:20]))
            found["transfer_20_in_100"].append(shared(one[:20], other))
            found["transfer_100"].append(shared(one, other))
            pairs = [[field for field in top if len(field) == 2][:20] for top in (one, other)]
            found["transfer_pairs"].append(shared(*pairs))
        seeds = {"seeds": numbers(made)}
        rows += [row(arm, metric, float(np.mean(values)), "share") | seeds for metric, values in found.items()]
    count = float(np.mean([cell["sets"] - 1 for cell in cells["whole"]]))
    chances = {"transfer": 20, "transfer_20_in_100": 100, "transfer_100": 100, "transfer_pairs": 20}
    return [*rows, *(row("chance", metric, top / count, "share") for metric, top in chances.items())]


def shared(one: Sequence[Any], other: Sequence[Any]) -> float:
    return len(set(one) & set(other)) / len(one)


def culprit_rows(cells: Cells) -> Rows:
    """How often the spoiled patch's own component, patch or part is among the first three; Wilson's interval."""
    rows: Rows = []
    faults = cells["fault"]
    kinds = sorted({cell["fault"] for cell in faults})
    for arm in ("ours", "ours/single_patches", "gradient_map", "nmf", "artifacts"):
        for name, chosen in [
            ("", faults),
            *((f"/{kind}", [c for c in faults if c["fault"] == kind]) for kind in kinds),
        ]:
            for metric, top in (("culprit_top3", TOP), ("culprit_first", 1))[: 1 if name else 2]:
                right = [1 <= cell["ranks"][arm] <= top for cell in chosen]
                bounds = wilson_interval(sum(right), len(right))
                rows.append(
                    row(arm + name, metric, float(np.mean(right)), "share", *bounds) | {"seeds": numbers(chosen)}
                )
    for arm, counts in {
        "chance/ours": [cell["ranks"]["ours/candidates"] for cell in faults],
        "chance/gradient_map": [cell["patches"] for cell in faults],
    }.items():
        rows.append(row(arm, "culprit_top3", float(np.mean([min(1, TOP / count) for count in counts])), "share"))
    return rows


def repair_rows(cells: Cells) -> Rows:
    """Repairs by arm, of all faults and of each kind."""
    rows: Rows = []
    kinds = {cell["fault"] for cell in cells["fault"]}
    found: dict[str, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    for cell in (*cells["fault"], *cells.get("donor", ()), *cells.get("plain", ())):
        for arm, made in cell["repairs"].items():
            found[arm].append((int(cell["number"]), made))
            found[f"{arm}/{cell['fault']}"].append((int(cell["number"]), made))
    for arm, tried in found.items():
        seeds = {"seeds": [number for number, _ in tried]}
        made = [each for _, each in tried]
        taken = [each for each in made if each["accepted"]]
        bounds = wilson_interval(len(taken), len(made))
        rows.append(row(arm, "repair_accepted", len(taken) / len(made), "share", *bounds) | seeds)
        gains, outside = [each["gain"] for each in taken], [each["outside"] for each in taken]
        every = [each["gain"] for each in made]  # 0 where nothing was accepted: arms that refuse much are not favoured
        rows.append(row(arm, "repair_gain_median", float(np.median(every)), "gain") | seeds)
        if taken:
            rows.append(row(arm, "repair_improved", float(np.mean(np.array(gains) > 0)), "share") | seeds)
        if arm.rpartition("/")[2] in kinds:
            continue
        by_components = [each["route"] == "primitives" for each in made]
        rows.append(row(arm, "repair_by_components", float(np.mean(by_components)), "share") | seeds)
        seconds = [each["seconds"] for each in made]
        rows.append(row(arm, "repair_seconds", float(np.mean(seconds)), "processor s") | seeds)
        rows.append(over_seeds(arm, "repair_gain_all", every, "gain") | seeds)
        if taken:
            rows.append(over_seeds(arm, "repair_gain", gains, "gain") | seeds)
            rows.append(row(arm, "repair_outside", float(np.mean(outside)), "energy share") | seeds)
            rows.append(row(arm, "repair_outside_max", float(np.max(outside)), "energy share") | seeds)
    return rows
