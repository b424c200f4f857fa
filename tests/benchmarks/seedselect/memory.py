"""Peak memory of a search by batch size, each in a process of its own.

`python -m tests.benchmarks.seedselect.memory BATCH {keep,checkpoint}` runs one search and prints the MiB that it needed
above what the loaded models and a plain image needed.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from tailforge.schemas.settings.engines import SeedSelectEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.seed_select.engine import render_searched
from tailforge.tasks.methods.workshop import TAIL_PARTS
from tests.benchmarks.pages import ROOT, row
from tests.benchmarks.seedselect.parts import make_goal, open_bench, request

BATCHES = (1, 2, 4, 8, 16)
SHORT: dict[str, Any] = {"steps": 16, "guidance": 3.0, "candidates": 2, "finalists": 1, "rounds": 1, "iterations": 1}


def peak_mb() -> float:
    """Of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def search_once(batch: int, checkpointing: bool) -> float:
    """MiB that one batch's search took above plain sampling of one image."""
    engine = SeedSelectEngine(**SHORT, batch_size=batch, checkpointing=checkpointing, plain_samples=8, stop=None)
    bench, part = open_bench(), TAIL_PARTS[0]
    goal = make_goal(bench, part, 0, engine.model_copy(update={"batch_size": 1}))
    before = peak_mb()
    list(render_searched(bench.model, request(part, "memory", batch), engine, goal, None, Clock()))
    return peak_mb() - before


def memory_rows(work: Path) -> list[dict[str, Any]]:
    """A row for each batch size, with and without checkpointing; measured where `work` does not hold them."""
    file = work / "memory.json"
    if file.exists():
        return json.loads(file.read_text())  # type: ignore[no-any-return]
    rows = []
    for kind in ("keep", "checkpoint"):
        for batch in BATCHES:
            command = [sys.executable, "-m", "tests.benchmarks.seedselect.memory", str(batch), kind]
            out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
            rows.append(row(f"memory/{kind}", f"search_mb_batch_{batch}", float(out), "MiB"))
            print(rows[-1], flush=True)
    file.write_text(json.dumps(rows))
    return rows


def main() -> None:
    """One search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("batch", type=int)
    parser.add_argument("kind", choices=("keep", "checkpoint"))
    words = parser.parse_args()
    print(search_once(words.batch, words.kind == "checkpoint"))


if __name__ == "__main__":
    main()
