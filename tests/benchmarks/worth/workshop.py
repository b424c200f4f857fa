"""The set `workshop`: the road of docs/tutorials/photographs-to-a-gain.md. Its real pictures are renders."""

from pathlib import Path

from tests.benchmarks.worth.commands import Road, run

NAME = "workshop"
PROMPT = "a photo of a {material} {concept} on a {surface}"
WORDS = (
    "material=steel,brass,copper,blue plastic,red plastic,black rubber",
    "surface=wooden bench,green cutting mat,concrete floor,sheet of white paper,dark metal plate",
)
PLAIN = "{kind: plain, steps: 16, guidance: 3.0, batch_size: 8}"
OPTIONS = (
    "--few", 6, "--size", "32x32", "--fit", "stretch", "--steps", 300, "--batch", 64, "--shares", 0.5,
    "--augmentations", 10,
)  # fmt: skip


def lay_workshop(folder: Path) -> Road:
    """Write pictures and recipe to a folder. The rival `plain` draws each image from its own noise."""
    parts, more, start = (folder / name for name in ("parts", "more", "start"))
    if not more.exists():
        run("example", "--out", parts, "--held-back", more)
    if not start.exists():
        words = [word for each in WORDS for word in ("--word", each)]
        run("init", parts, "--out", start, "--generator", "catalog:workshop", "--prompt", PROMPT, *words)

    recipe, plain = start / "recipe.yaml", "parts_plain"
    return Road(
        {"parts": (recipe,), plain: (recipe, "--set", f"name={plain}", "--set", f"engine={PLAIN}")},
        ("--real", start / "photographs.csv", "--root", parts, "--folder", start, *OPTIONS,
         "--learning-curve", "--held-back", more),
    )  # fmt: skip
