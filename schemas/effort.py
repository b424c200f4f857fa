"""What the cost of a stage's work depends on, kept with its receipt so that later builds can be predicted from it."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Effort(BaseModel):
    """Two artifacts of one `like` and one place cost the same a row.

    `like`: 12 hex digits over the stage's version, its models and those of its settings that cost. `passes` and
    `pixels`: denoising passes and pixels of an image, where a recipe says them; 0 otherwise. `machine`: processor and
    threads. `device`: the accelerator's name, or "cpu". `cold`: the first of its kind in its process, which warms up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    like: str
    version: str
    machine: str
    device: str
    cold: bool = False
    passes: int = 0
    pixels: int = 0

    @property
    def place(self) -> str:
        """What decides the speed: the accelerator where one was used, else the machine."""
        return self.machine if self.device == "cpu" else self.device


# Settings of each stage that decide what a row costs; the others say what is in it.
COSTING: Mapping[str, tuple[str, ...]] = {
    "prompts": ("language_model", "per_concept", "wordnet"),
    "aims": ("sampling",),
    "seeds": ("method", "engine"),
    "inversions": ("method", "engine", "preparation"),
    "samples": ("method", "engine", "recorded"),
    "masks": ("annotation",),
    "verdicts": ("gates", "verifier"),
    "selection": ("near_duplicates",),
    "augmented": ("augmentation", "gates", "verifier"),
    "shards": ("image_format", "attention", "noise"),
}
FREE = {"negative_prompt"}  # of an engine: changes what is drawn, not how long it takes


def costing_settings(stage: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of a stage's settings decides the cost of a row."""
    kept = {name: settings[name] for name in COSTING.get(stage, ()) if name in settings}
    for name in ("engine", "sampling"):
        if isinstance(kept.get(name), Mapping):
            engine = {key: value for key, value in kept[name].items() if key not in FREE}
            kept[name] = engine | ({"guidance": engine["guidance"] > 1} if "guidance" in engine else {})
    if "gates" in kept:
        kept["gates"] = sorted(kept["gates"])  # which scores are compared, not with what
    return kept


def count_passes(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Denoising passes and pixels of an image by the engine "plain"; 0 where the settings do not say."""
    engine = settings.get("engine")
    if not isinstance(engine, Mapping) or engine.get("kind") != "plain":
        return 0, 0
    passes = int(engine["steps"]) * (2 if engine["guidance"] > 1 else 1)
    return passes, int(engine["height"] or 0) * int(engine["width"] or 0)
