"""Which component drew which region: is that true, sparse, stable and of use? `make bench-primitives`.

`python -m tests.benchmarks.primitives [--work DIR] [--samples N] [--faults N] ...` makes what is missing in DIR (a cell
is written whole, so it can be stopped), then writes docs/benchmarks/primitives. Everything runs on one thread.
"""

import argparse
import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from tailforge.tasks.methods.regional_primitives.baselines import map_gradient
from tailforge.tasks.methods.regional_primitives.decompose import DecomposeSettings, Decomposition, decompose
from tailforge.tasks.methods.regional_primitives.demands import SolveSettings, Subject
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid
from tailforge.tasks.methods.sampling.pixels import to_pixels
from tests.benchmarks.primitives import measures
from tests.benchmarks.primitives.faults import Fault, measure_donor, measure_fault, measure_inpainting, plant
from tests.benchmarks.primitives.page import write_results
from tests.benchmarks.primitives.subjects import GRID, LAYER, open_latents, open_model, open_subject
from tests.support.tiny_tails import SIZE, planted_subject

SAMPLES, RANDOM, NINE, STABLE, FAULTS, DEEP, COST = 8, 3, 2, 3, 30, 1, 3
# Samples whose components leak at the default tolerance are solved again with tighter ones.
TIGHTER = ((3, 1e-3), (6, 1e-3), (3, 1e-4), (6, 1e-4))
BLOCK = tuple(row * 6 + column for row in (2, 3, 4) for column in (1, 2, 3))  # nine patches in the middle
DEEPER = "decoder.up_blocks.1"
EXACT = SolveSettings(tolerance=1e-10, damping=1e-13, start_iterations=60, correction_iterations=30)
VARIED = {
    "tolerance": SolveSettings(tolerance=1e-3),
    "damping": SolveSettings(damping=1e-3),
    "start": SolveSettings(start_iterations=4),
}


class Bench:
    """What all cells are measured with."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.models = {"trained": open_model(), "random_weights": open_model(random_weights=True)}
        self.drawn = open_latents(self.models["trained"], work)

    def make(self, kind: str, number: int) -> None:
        """One cell, unless it is there."""
        file = self.work / "cells" / f"{kind}-{number}.json"
        if file.exists():
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        started = time.process_time()
        found = getattr(self, f"make_{kind}")(number)
        beside = file.with_suffix(".tmp")
        beside.write_text(json.dumps({"kind": kind, "number": number, **found}))
        beside.replace(file)
        print(f"{kind}-{number}: {time.process_time() - started:.0f} s", flush=True)

    @lru_cache(maxsize=16)  # noqa: B019  one bench a process
    def subject(self, weights: str, number: int, layer: str = LAYER) -> Subject:
        return open_subject(self.models[weights], self.drawn, number, layer=layer)

    def make_planted(self, number: int) -> dict[str, Any]:
        """Largest error of any component, over the largest planted one: all sets of nine patches, exact solves."""
        rng = np.random.default_rng((4300, number))
        grid, fields = PatchGrid(3, 3, SIZE, SIZE), list[tuple[int, ...]]()
        while len(fields) < 6:
            field = tuple(sorted(int(p) for p in rng.choice(9, int(rng.integers(1, 4)), replace=False)))
            fields += [field] if field not in fields else []
        subject = planted_subject(grid, fields, number)
        change = (subject.feature - subject.baseline)[0]
        errors = {}
        for name, solve in (("exact", EXACT), ("default", SolveSettings())):
            found = decompose(subject, grid, DecomposeSettings(order=None, solve=solve))
            truth = torch.zeros_like(found.changes)
            for k, field in enumerate(fields):
                truth[found.fields.index(field), k] = change[k]
            errors[name] = float((found.changes - truth).abs().max() / change.abs().max())
        return {"errors": errors}

    def make_whole(self, number: int) -> dict[str, Any]:
        return self.explain_whole("trained", number)

    def make_random(self, number: int) -> dict[str, Any]:
        return self.explain_whole("random_weights", number)

    def explain_whole(self, weights: str, number: int) -> dict[str, Any]:
        """Up to 36 patches at order two."""
        subject, rng = self.subject(weights, number), np.random.default_rng((4400, number))
        settings, started = DecomposeSettings(order=2), time.process_time()
        found = decompose(subject, GRID, settings)
        seconds = time.process_time() - started
        generator = torch.Generator().manual_seed(number)
        parts = measures.factorise(subject)
        contained = measures.measure_containment(subject, found, [int(k) for k in found.salient], generator)
        if weights == "trained":
            contained["nmf"] = measures.contain_parts(subject, parts)
            contained["gradient_map"] = measures.contain_gradient(subject, found.players)
        return {
            "sets": 1 + len(found.players) + len(found.players) * (len(found.players) - 1) // 2,
            "seconds": seconds,
            "players": found.players,
            "salient": len(found.salient),
            "reported": float(found.reported.mean()),
            "residual_all": found.residual_all,
            "shares": describe_shares(subject, found),
            "containment": contained,
            "curves": self.follow_curves(subject, found, parts, rng, weights == "trained"),
            "held_out": measures.try_additivity(subject, found, rng, settings.solve),
            "components_90": {
                "ours": measures.count_for(np.where(found.reported, found.strengths, 0) ** 2),
                "nmf": measures.count_for(square_strengths(subject, parts)),
                "gradient_map": measures.count_for(
                    ((subject.feature - subject.baseline) / subject.spread)[0].square().sum(0).flatten().numpy()
                ),
            },
            "orders": measures.split_orders(found),
            "strongest": [found.fields[int(k)] for k in np.argsort(-found.strengths)[:100]],
        }

    def follow_curves(
        self,
        subject: Subject,
        found: Decomposition,
        parts: torch.Tensor,
        rng: np.random.Generator,
        controls: bool,
    ) -> list[dict[str, Any]]:
        """Curves for one block of two by two patches a sample, by every arm."""
        block = measures.choose_block(rng, found.players, (2, 2))
        assert block is not None
        region = torch.isin(GRID.numbers(), torch.tensor(block))
        order = measures.rank_by_blame(subject, found.changes, region)
        ranked = found.changes[torch.tensor(order)]
        curves = {"ours": measures.measure_curves(subject, ranked, region)}
        bare = Subject(subject.tail, subject.feature - found.rest, subject.baseline, subject.spread)
        curves["ours/without_rest"] = measures.measure_curves(bare, ranked, region)
        if controls:
            generator = torch.Generator().manual_seed(block[0])
            shuffled = found.changes[torch.from_numpy(rng.permutation(len(order)))]
            curves["ours/random_order"] = measures.measure_curves(subject, shuffled, region)
            scattered = measures.random_directions(subject, ranked, generator)
            curves["random_direction"] = measures.measure_curves(subject, scattered, region)
            by_blame = parts[torch.tensor(measures.rank_by_blame(subject, parts, region))]
            curves["nmf"] = measures.measure_curves(subject, by_blame, region)
            heat = map_gradient(subject, region)
            curves["gradient_map"] = measures.measure_cell_curves(subject, heat, region)
        return [{"arm": arm, **each} for arm, each in curves.items()]

    def make_nine(self, number: int) -> dict[str, Any]:
        """The nine patches that change most, all sets: time, and what orders above two hold."""
        subject, started = self.subject("trained", number), time.process_time()
        found = decompose(subject, GRID, DecomposeSettings(order=None))
        return {
            "seconds": time.process_time() - started,
            "orders": measures.split_orders(found),
            "components_90": measures.count_for(found.strengths**2),
            "reported": float(found.reported.mean()),
            "salient": len(found.salient),
        }

    def make_stable(self, number: int) -> dict[str, Any]:
        """Nine patches at order two, again with each thing varied alone."""
        subject, rows = self.subject("trained", number), {}
        reference = decompose(subject, GRID, DecomposeSettings(order=2), BLOCK)
        for name, solve in VARIED.items():
            rows[name] = compare(subject, reference, decompose(subject, GRID, DecomposeSettings(2, solve=solve), BLOCK))
        half = self.drawn.background[::2]
        other = open_subject(self.models["trained"], self.drawn, number, half)
        rows["half_background"] = compare(subject, reference, decompose(other, GRID, DecomposeSettings(2), BLOCK))
        parts = [measures.factorise(subject, seed) for seed in (0, 1)]
        return {"variants": rows, "nmf": measures.match_parts(parts[0], parts[1], subject.spread)}

    def make_deep(self, number: int) -> dict[str, Any]:
        """One block earlier: containment of nine patches' components, trained and with random weights."""
        contained = {}
        for weights in ("trained", "random_weights"):
            subject = self.subject(weights, number, DEEPER)
            found = decompose(subject, GRID, DecomposeSettings(order=2), BLOCK)
            chosen = [int(k) for k in found.salient]
            generator = torch.Generator().manual_seed(number)
            contained[weights] = measures.measure_containment(subject, found, chosen, generator)
        return {"containment": contained}

    def make_cost(self, number: int) -> dict[str, Any]:
        """The cheap baselines on the same image: a gradient map of every patch, a factorisation."""
        subject = self.subject("trained", number)
        started = time.process_time()
        measures.contain_gradient(subject, range(GRID.count))
        mapped = time.process_time()
        parts = measures.factorise(subject)
        seconds = {"gradient_map": mapped - started, "nmf": time.process_time() - mapped}
        return {"seconds": seconds, "covered": float(measures.place_parts(parts).mean())}

    def make_fault(self, number: int) -> dict[str, Any]:
        """One fault, by every arm."""
        fault, sample = self.plant_fault(number), number % SAMPLES
        found, pictures = measure_fault(self.models["trained"], self.drawn.prompts[sample], fault, number)
        self.keep_pictures(f"fault-{number}", pictures)
        return {"sample": sample, **found}

    def make_donor(self, number: int) -> dict[str, Any]:
        """The same fault, mended by components of the autoencoder's reconstruction."""
        found, pictures = measure_donor(self.models["trained"], self.plant_fault(number), self.drawn.background)
        self.keep_pictures(f"donor-{number}", pictures)
        return found

    def keep_pictures(self, name: str, pictures: dict[str, torch.Tensor]) -> None:
        pixels = {name: to_pixels(image)[0] for name, image in pictures.items()}
        np.savez_compressed(self.work / "cells" / f"{name}.npz", **pixels)

    def make_plain(self, number: int) -> dict[str, Any]:
        """The same fault, inpainted and judged without the second opinion."""
        prompt = self.drawn.prompts[number % SAMPLES]
        return measure_inpainting(self.models["trained"], prompt, self.plant_fault(number), number)

    def make_tight(self, number: int) -> dict[str, Any]:
        """A whole image again, solved more exactly."""
        sample, tolerance = TIGHTER[number]
        subject = self.subject("trained", sample)
        settings = DecomposeSettings(2, solve=SolveSettings(tolerance=tolerance))
        started = time.process_time()
        found = decompose(subject, GRID, settings)
        seconds, generator = time.process_time() - started, torch.Generator().manual_seed(number)
        chosen = [int(k) for k in found.salient]
        return {
            "sample": sample,
            "tolerance": tolerance,
            "seconds": seconds,
            "salient": len(chosen),
            "residual_all": found.residual_all,
            "reported": float(found.reported.mean()),
            "shares": describe_shares(subject, found),
            "containment": measures.measure_containment(subject, found, chosen, generator),
        }

    def plant_fault(self, number: int) -> Fault:
        """Faults go round the samples."""
        subject, other = (self.subject("trained", each % SAMPLES) for each in (number, number + 1))
        return plant(subject, other, number)


def describe_shares(subject: Subject, found: Decomposition) -> dict[str, float]:
    """Lengths of rest and of the neglected orders over that of f - f0, in units of the spreads."""
    whole = measures.length(subject, subject.feature - subject.baseline)
    parts = {"rest": found.rest, "truncated": found.truncated}
    return {name: measures.length(subject, part) / whole for name, part in parts.items()}


def square_strengths(subject: Subject, changes: torch.Tensor) -> measures.Values:
    found: measures.Values = (changes / subject.spread).square().flatten(1).sum(1).double().numpy()
    return found


def compare(subject: Subject, one: Decomposition, other: Decomposition) -> dict[str, float]:
    """Rank correlation of strengths, and how alike the changes are, weighted by strength."""
    scaled = [(each.changes / subject.spread).flatten(1).double() for each in (one, other)]
    cosines = (scaled[0] * scaled[1]).sum(1) / (scaled[0].norm(dim=1) * scaled[1].norm(dim=1))
    weights = torch.from_numpy(one.strengths**2)
    return {
        "spearman": float(spearmanr(one.strengths, other.strengths).statistic),
        "cosine": float((cosines * weights).sum() / weights.sum()),
    }


def main() -> None:
    """Make the cells in an order in which every kind is begun early, then the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work/primitives"))
    parser.add_argument("--cells-only", action="store_true")
    parser.add_argument("--page-only", action="store_true")
    wanted = {
        "planted": 20,
        "whole": SAMPLES,
        "random": RANDOM,
        "stable": STABLE,
        "nine": NINE,
        "deep": DEEP,
        "cost": COST,
        "fault": FAULTS,
        "donor": FAULTS,
        "plain": FAULTS,
        "tight": len(TIGHTER),
    }
    for kind, count in wanted.items():
        parser.add_argument(f"--{kind}", type=int, default=count)
    words = parser.parse_args()
    torch.set_num_threads(1)
    words.work.mkdir(parents=True, exist_ok=True)
    if not words.page_only:
        bench = Bench(words.work)
        cells = [((number + 1) / count, kind, number) for kind in wanted if (count := getattr(words, kind))
                 for number in range(count)]  # fmt: skip
        for _, kind, number in sorted(cells):
            bench.make(kind, number)
    if not words.cells_only:
        write_results(words.work)


if __name__ == "__main__":
    main()
