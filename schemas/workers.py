"""What a build's steps run on, as a person asks for it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt


class WorkerSettings(BaseModel):
    """`workers`: how many at most; `devices`: those of processes, by name; `ray_address`: host:port of a head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runner: Literal["threads", "processes", "ray"] = "threads"
    workers: PositiveInt | None = None
    devices: tuple[str, ...] = ()
    ray_address: str | None = None
