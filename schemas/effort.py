"""What the cost of a stage's work depends on, kept with its receipt so that later builds can be predicted from it."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from tailforge.schemas.settings.engines import find_settings

PLAIN = "plain"
# How an older build called a machine: with the threads of the process, of which another number is no other machine.
THREADED = re.compile(r"(?P<name>.*), (?P<threads>\d+) of (?P<cores>\d+) threads")


def name_machine(text: str) -> str:
    """A machine as it is called now, by its architecture, processor and cores."""
    found = THREADED.fullmatch(text)
    return f"{found['name']}, {found['cores']} cores" if found else text


class Effort(BaseModel):
    """Two artifacts of one `like`, one place and one number of threads cost the same a row.

    `like`: 12 hex digits over the stage's version, its models and those of its settings that cost. `passes` and
    `pixels`: passes through the denoiser and pixels of an image, where a recipe says them; 0 otherwise. `engine`: what
    makes the passes, "" where none does. `machine`: processor and cores. `threads`: of the process, 0 where not told.
    `device`: the accelerator's name, or "cpu". `cold`: the first of its kind in its process, which warms up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    like: str
    version: str
    machine: str
    device: str
    threads: int = 0
    cold: bool = False
    passes: int = 0
    pixels: int = 0
    engine: str = ""

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        found = THREADED.fullmatch(str(data.get("machine", "")))
        threads = {"threads": int(found["threads"])} if found else {}
        engine = {"engine": PLAIN} if data.get("passes") and "engine" not in data else {}
        return {**threads, **engine, **data, "machine": name_machine(str(data.get("machine", "")))}

    @property
    def place(self) -> str:
        """What decides the speed: the accelerator where one was used, else the machine."""
        return self.machine if self.device == "cpu" else self.device

    def has_threads_of(self, other: "Effort") -> bool:
        """Whether both use as many threads, as far as that decides the speed and is known."""
        return self.device != "cpu" or not (self.threads and other.threads) or self.threads == other.threads


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


# Seconds of a pass in a search over those in plain sampling. Measured on the workshop, as STAYING in
# schemas/settings/engines.py: 40 candidates of best_of_n 0.73, published SeedSelect, which never stops, 0.69; the
# recipe workshop_rare 0.31 with both.
SEARCHING = 0.7


def name_engine(settings: Mapping[str, Any]) -> str:
    """What makes the passes of a stage with these settings; "" where none is said."""
    stored = settings.get("engine")
    return str(stored.get("kind", "")) if isinstance(stored, Mapping) else PLAIN if "sampling" in settings else ""


def count_passes(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Passes through the denoiser that an image costs, in those of plain sampling, and its pixels; 0 where not said."""
    stored = settings.get("engine", settings.get("sampling"))
    if not isinstance(stored, Mapping) or "steps" not in stored or "guidance" not in stored:
        return 0, 0
    branches = 2 if stored["guidance"] > 1 else 1
    drawn, few = stored["steps"] * branches, _few_steps(stored) * branches
    engine = find_settings(stored.get("kind", PLAIN))
    search = engine.count_search(stored, drawn, few, branches) if engine else 0.0
    return round(drawn + SEARCHING * search), int(stored.get("height") or 0) * int(stored.get("width") or 0)


def _few_steps(engine: Mapping[str, Any]) -> int:
    return int(engine.get("screening_steps") or max(1, engine["steps"] // 2))
