"""Defects drawn into photographs: are their masks right, and what are they worth? `make bench-defects`.

`python -m tests.benchmarks.defects [--work DIR] [--seeds ...] [--images N] [--arms ...] [--sets ...] [--evaluations N]`
builds a version per arm and seed in DIR, evaluates versions on the sets of solar cells, and writes
docs/benchmarks/defects.{json,md}. A second run makes nothing twice. Rows of arms and sets that are left out stay.
"""

import argparse
from pathlib import Path

import torch

from tests.benchmarks.defects.accuracy import Published, score_arm
from tests.benchmarks.defects.cells import COUNTS, find_file, measure_cells
from tests.benchmarks.defects.page import write_page
from tests.benchmarks.defects.rendered import draw_rendered
from tests.benchmarks.defects.workshop import ENGINES, draw
from tests.benchmarks.masks.images import open_generator
from tests.benchmarks.pages import write_json

RENDERED = "rendered"


def draw_arm(work: Path, arm: str, seed: int, images: int) -> list[Published]:
    """Return the pictures of an arm and seed, `images` of each defect."""
    if arm == RENDERED:
        return list(draw_rendered(open_generator(), seed, images))
    return draw(work, arm, seed, images)


def main() -> None:
    """Draw, compare and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work/defects"))
    parser.add_argument("--seeds", nargs="*", type=int, default=[30, 31, 32])
    parser.add_argument("--images", type=int, default=8, help="images of each defect and seed")
    arms = (*ENGINES, RENDERED)
    parser.add_argument("--arms", nargs="*", choices=arms, default=arms)
    parser.add_argument("--sets", nargs="*", choices=COUNTS, default=list(COUNTS))
    parser.add_argument("--evaluations", type=int, default=5, help="paired seeds of the evaluations on solar cells")
    words = parser.parse_args()
    torch.set_num_threads(1)
    for arm in words.arms:
        drawn = {seed: draw_arm(words.work, arm, seed, words.images) for seed in words.seeds}
        write_json("defects", words.seeds, list(score_arm(f"workshop/{arm}", drawn)))
        print(arm, flush=True)
    if words.sets and find_file() is None:
        print("solar_cells.parquet is not there, its sets are skipped; TAILFORGE_DATA names its folder")
    else:
        measure_cells(words.work, words.sets, words.evaluations)
    write_page()


if __name__ == "__main__":
    main()
