"""Command `tailforge evaluate`. flows/cli/commands.py registers it and says what a command may do."""

from typing import Any

from tailforge.flows.cli import evaluation_options as options
from tailforge.flows.cli.options import (
    DEFAULT_STORE,
    AcceleratorPrice,
    ImagesRoot,
    Json,
    MachinePrice,
    RecipeFolder,
    Store,
    console,
    print_json,
    table,
)
from tailforge.flows.cli.publication import warn
from tailforge.flows.terminal.stopping import run_stoppable
from tailforge.schemas.documents.shown import count_of, visible

SHOWN_LEAKS = 5


def evaluate(
    dataset: options.Dataset,
    real: options.Real,
    root: ImagesRoot = None,
    store: Store = DEFAULT_STORE,
    against: options.Against = [],  # noqa: B006
    class_: options.Pairs = [],  # noqa: B006
    task: options.Task = "classification",
    mask_classes: options.MaskClasses = "",
    unmasked: options.Unmasked = "background",
    model: options.Model = "",
    from_scratch: options.FromScratch = False,
    size: options.Size = None,
    fit: options.EvaluatedFit = None,
    steps: options.Steps = 400,
    batch: options.Batch = None,
    learning_rate: options.LearningRate = None,
    checks: options.Checks = 5,
    seeds: options.Seeds = 5,
    first_seed: options.FirstSeed = 0,
    shares: options.Shares = "0.25,0.5,0.75",
    augmentations: options.Augmentations = 4,
    few: options.Few = 20,
    many: options.Many = 100,
    learning_curve: options.LearningCurve = False,
    held_back: options.HeldBack = None,
    leaked: options.Leaked = "drop",
    folder: RecipeFolder = None,
    machine_price: MachinePrice = None,
    accelerator_price: AcceleratorPrice = None,
    workers: options.Workers = None,
    as_json: Json = False,
) -> None:
    """Measure what a version is worth to a model of real images: train with and without it, and compare.

    Example: `tailforge evaluate workshop --real inspection/`
    """
    from tailforge.flows.training.evaluate_version import evaluate_version
    from tailforge.flows.training.evaluation_inputs import Request, parse_settings
    from tailforge.schemas.prices import Prices

    settings = parse_settings(
        {
            "task": task, "model": model, "from_scratch": from_scratch, "steps": steps, "batch": batch,
            "learning_rate": learning_rate, "checks": checks, "seeds": seeds, "first_seed": first_seed,
            "shares": options.parse_shares(shares), "augmentations": augmentations, "few": few, "many": many,
            "learning_curve": learning_curve, "unmasked": unmasked, "leaked": leaked,
        }
    )  # fmt: skip
    asked = Request(
        dataset, store, real, settings, tuple(against), options.parse_pairs(class_), options.parse_size(size), fit,
        folder, root, held_back, options.parse_names(mask_classes), Prices(accelerator_price, machine_price),
    )  # fmt: skip
    made = run_stoppable(evaluate_version, asked, workers)
    print_json(made) if as_json else print_evaluation(made)


def print_evaluation(made: dict[str, Any]) -> None:
    """Print an evaluation for a person."""
    from tailforge.tasks.report.evaluation import tell_costs

    images = made["images"]
    if images["fit"] != "exact":
        size = f"{images['height']} x {images['width']} pixels (height x width)"
        console.print(f"images: brought to {size} by fit {images['fit']}; --size and --fit choose others")
    for leak in made["leaks"][:SHOWN_LEAKS]:
        warn("left out", f"test image {leak['image']}: {leak['how']} of the {leak['kind']} {leak['of']}")
    if len(made["leaks"]) > SHOWN_LEAKS:
        console.print(f"... and {count_of(len(made['leaks']) - SHOWN_LEAKS, 'more test image')}; the record lists all")
    for each in made["references_by_digest_only"]:
        warn("references", f"{each}: the photographs were not found, only equal files are recognised; give --folder")

    rows = [
        [each["arm"], each["setting"], show(each["tail"]), show(each["macro"]), show(each["calibration_error"])]
        for each in made["arms"]
    ]
    table(
        f"{made['score']} on test, mean over seeds",
        ["arm", "setting", "rare classes", "all classes", "calibration"],
        rows,
    )
    console.print(f"verdict: {visible(made['verdict'])}", soft_wrap=True)
    console.print(f"cost: {visible(tell_costs(made['costs']))}", soft_wrap=True)
    console.print(f"record: {made['files']['record']}", soft_wrap=True)
    console.print(f"page: {made['files']['page']}", soft_wrap=True)


def show(figure: dict[str, Any]) -> str:
    """Return a figure in per cent; empty without one."""
    return "" if figure["value"] is None else f"{100 * figure['value']:.1f} %"
