"""The factors of a stage's cost. Receipts store them, so that estimates can predict later builds."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from tailforge.schemas.settings.engines import find_settings

PLAIN = "plain"
# Machine names of older builds, which include the threads of the process.
THREADED = re.compile(r"(?P<name>.*), (?P<threads>\d+) of (?P<cores>\d+) threads")


def name_machine(text: str) -> str:
    """Return a machine's current name, with architecture, processor and cores, from a current or an older name."""
    found = THREADED.fullmatch(text)
    return f"{found['name']}, {found['cores']} cores" if found else text


class Effort(BaseModel):
    """The factors of an artifact's cost. Artifacts with equal `like`, `place` and `threads` cost the same per row.

    `like`: 12 hex digits over the stage's version, its models and its costly settings. `passes` and `pixels`: denoiser
    passes and pixels per image; 0 if the recipe does not set them. `engine`: kind of engine, "" without one.
    `machine`: processor and cores. `threads`: threads of the process, 0 if unknown. `device`: the accelerator's name,
    or "cpu". `cold`: the first artifact of its kind in its process, which includes warming up.
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
        """Complete the data of older builds: threads from the machine's name, and the engine."""
        if not isinstance(data, dict):
            return data
        found = THREADED.fullmatch(str(data.get("machine", "")))
        threads = {"threads": int(found["threads"])} if found else {}
        engine = {"engine": PLAIN} if data.get("passes") and "engine" not in data else {}
        return {**threads, **engine, **data, "machine": name_machine(str(data.get("machine", "")))}

    @property
    def place(self) -> str:
        """Return the hardware that decides the speed: the accelerator, or the machine without one."""
        return self.machine if self.device == "cpu" else self.device

    def has_threads_of(self, other: "Effort") -> bool:
        """Return whether both use the same number of threads. Accelerators and unknown numbers count as the same."""
        return self.device != "cpu" or not (self.threads and other.threads) or self.threads == other.threads


FREE = {"negative_prompt"}  # settings of an engine without an effect on time


def costing_settings(costing: Collection[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a stage that decide the cost of a row: those named in `costing`, without free parts."""
    kept = {name: settings[name] for name in costing if name in settings}
    for name in ("engine", "sampling"):
        if isinstance(kept.get(name), Mapping):
            engine = {key: value for key, value in kept[name].items() if key not in FREE}
            kept[name] = engine | ({"guidance": engine["guidance"] > 1} if "guidance" in engine else {})
    if "gates" in kept:
        kept["gates"] = sorted(kept["gates"])  # the names of the scores; their bounds cost nothing
    return kept


# Time of a pass in a search relative to plain sampling. Measured on the workshop: 40 candidates of best_of_n 0.73,
# published SeedSelect, which never stops early, 0.69. The recipe workshop_rare has 0.31, which includes STAYING of
# schemas/settings/engines.py.
SEARCHING = 0.7


def name_engine(settings: Mapping[str, Any]) -> str:
    """Return the kind of engine in a stage's settings; "" without an engine."""
    stored = settings.get("engine")
    return str(stored.get("kind", "")) if isinstance(stored, Mapping) else PLAIN if "sampling" in settings else ""


def count_passes(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Return (passes, pixels) of an image, 0 if unknown. A pass of plain sampling counts 1, of a search SEARCHING."""
    if "passes" in settings:
        return int(settings["passes"]), 0
    stored = settings.get("engine", settings.get("sampling"))
    if not isinstance(stored, Mapping) or "steps" not in stored or "guidance" not in stored:
        return 0, 0
    branches = 2 if stored["guidance"] > 1 else 1
    engine = find_settings(stored.get("kind", PLAIN))
    steps = engine.count_steps(stored) if engine else stored["steps"]
    drawn, few = round(steps * branches), _few_steps(stored) * branches
    search = engine.count_search(stored, drawn, few, branches) if engine else 0.0
    return round(drawn + SEARCHING * search), int(stored.get("height") or 0) * int(stored.get("width") or 0)


def _few_steps(engine: Mapping[str, Any]) -> int:
    """Return the denoising steps of screening."""
    return int(engine.get("screening_steps") or max(1, engine["steps"] // 2))
