"""Defects drawn into photographs: are their masks right? `make bench-defects`.

`python -m tests.benchmarks.defects [--work DIR] [--seeds ...] [--images N] [--arms ...]` builds a version per arm and
seed in DIR (a second run builds nothing), and writes docs/benchmarks/defects.{json,md}. Rows of arms that are left out
stay as they are.
"""

import argparse
from pathlib import Path

import torch

from tests.benchmarks.defects.accuracy import Published, score_arm
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
    words = parser.parse_args()
    torch.set_num_threads(1)
    for arm in words.arms:
        drawn = {seed: draw_arm(words.work, arm, seed, words.images) for seed in words.seeds}
        write_json("defects", words.seeds, list(score_arm(f"workshop/{arm}", drawn)))
        print(arm, flush=True)
    write_page()


if __name__ == "__main__":
    main()
