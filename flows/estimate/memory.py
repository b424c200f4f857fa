"""Predict the peak memory of a build's device before it starts, and refuse what cannot fit, with the remedy."""

from dataclasses import asdict, dataclass
from typing import Any

from tailforge.flows.build.choose import choose_build
from tailforge.flows.build.prepare import prepare_build
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import BuildContext
from tailforge.tasks.artifacts.memory import DeviceMemory, read_device
from tailforge.tasks.report.units import show_bytes

predict_footprint = when_called("tasks.models.footprints", "predict_footprint")
count_beside = when_called("tasks.models.footprints", "count_beside")

GENERATORS = ("generator", "guide")
ELSEWHERE = ("language_model",)  # it has written its prompts before the first image
MEMORY_COLUMNS = ("phase", "batch", "weights", "tensors", "peak", "of the device")
GIGABYTE = 10**9


@dataclass(frozen=True)
class MemoryPlan:
    """The predicted peak of a build on a device, in bytes.

    `weights`: of the generator and its guide in `dtype`. `beside`: weights of the build's other models. `phases`: the
    peak of the tensors in each phase of a batch, without weights. `slopes`: their growth per image of the batch.
    `keeps`: whether gradients keep the tensors of all steps.
    """

    device: DeviceMemory
    dtype: str
    size: tuple[int, int]
    batch: int
    weights: int
    beside: int
    phases: dict[str, int]
    slopes: dict[str, float]
    keeps: bool

    @property
    def peak(self) -> int:
        """Return the most bytes that the build needs."""
        return self.weights + self.beside + max(self.phases.values())

    @property
    def largest_batch(self) -> int:
        """Return the largest batch that fits, 0 if a single image does not."""
        room = self.device.total - self.weights - self.beside
        growing = {phase: slope for phase, slope in self.slopes.items() if slope > 0}
        if any(self.phases[phase] > room for phase in self.phases.keys() - growing.keys()):
            return 0  # such as the text encoder's pass, which has one row in every batch
        return min(max(0, int(self.batch + (room - self.phases[phase]) // growing[phase])) for phase in growing)

    def to_json(self) -> dict[str, Any]:
        """Return the prediction as plain values."""
        return {**asdict(self), "peak": self.peak, "largest_batch": self.largest_batch}


def plan_memory(recipe: str, store: str, overrides: list[str], gigabytes: float | None) -> MemoryPlan:
    """Return the predicted memory of a build. `gigabytes`: of another accelerator, by default this machine's device.

    Errors: RecipeError for an engine without a pipeline; ModelError for missing or damaged files.
    """
    chosen = choose_build(recipe, store, overrides)
    return predict_memory(prepare_build(chosen.reference, store, chosen.overrides), gigabytes)


def predict_memory(build: BuildContext, gigabytes: float | None) -> MemoryPlan:
    """Return the predicted memory of a prepared build; see `plan_memory`."""
    sampling = build.recipe.engine.sampling
    if sampling is None or build.recipe.engine.takes_inpainting:
        raise RecipeError(
            f"--memory: the memory of engine {build.recipe.engine.kind} is not predicted, only that of engines that "
            "draw whole images with a text-to-image pipeline; leave --memory out"
        )

    # An accelerator runs in half precision. Two sizes show the growth per image.
    size = int((gigabytes or 0) * GIGABYTE)
    device = DeviceMemory("accelerator", size, size) if gigabytes is not None else read_device()
    batch = sampling.batch_size
    sizes = (1, batch) if batch > 1 else (1, 2)
    found = predict_footprint(build, sizes, device.name != "cpu")
    low, high = (found.phases[each] for each in sizes)
    others = [model for role, model in build.models.items() if role not in (*GENERATORS, *ELSEWHERE)]
    return MemoryPlan(
        device=device,
        dtype=found.dtype,
        size=found.size,
        batch=batch,
        weights=found.weights,
        beside=count_beside(others),
        phases=found.phases[batch],
        slopes={phase: (high[phase] - low[phase]) / (sizes[1] - sizes[0]) for phase in high},
        keeps=sampling.differentiates and not getattr(sampling, "checkpointing", True),
    )


def list_phases(plan: MemoryPlan) -> list[list[str]]:
    """Return one row of cells per phase, under MEMORY_COLUMNS."""
    weights = plan.weights + plan.beside
    return [
        [phase, str(plan.batch), *map(show_bytes, (weights, tensors, weights + tensors, plan.device.total))]
        for phase, tensors in plan.phases.items()
    ]


def describe_memory(plan: MemoryPlan) -> str:
    """Return a line on the device, the precision and the largest batch."""
    height, width = plan.size
    fits = f"the largest batch that fits is {plan.largest_batch}" if plan.largest_batch else "no image fits"
    return f"memory on {plan.device.name}, images of {height} x {width} in {plan.dtype}: {fits}"


def require_memory(plan: MemoryPlan) -> None:
    """Refuse a build that does not fit into the device. Errors: RecipeError with the setting that would."""
    if plan.peak <= plan.device.total:
        return
    needs = f"engine.batch_size {plan.batch} needs {show_bytes(plan.peak)}, {plan.device.name} has "
    raise RecipeError(f"{needs}{show_bytes(plan.device.total)}; {_advise(plan)}")


def _advise(plan: MemoryPlan) -> str:
    """Return what would make the build fit."""
    recompute = "set engine.checkpointing: true" if plan.keeps else ""
    if plan.largest_batch:
        return f"set engine.batch_size to {plan.largest_batch} at most{recompute and f', or {recompute}'}"
    if plan.weights + plan.beside > plan.device.total:
        half = "; an accelerator of the same memory takes half, in half precision" if plan.device.name == "cpu" else ""
        return f"the models' weights alone need {show_bytes(plan.weights + plan.beside)}: use a smaller generator{half}"
    height, width = plan.size
    smaller = recompute or "set a smaller engine.height and engine.width"
    return f"a single image of {height} x {width} does not fit: {smaller}"
