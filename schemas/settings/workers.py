"""What a build's steps run on, as a person asks for it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_WORKERS = 4096


class WorkerSettings(BaseModel):
    """`workers`: how many at most; `devices`: those of processes, by name; `ray_address`: host:port of a head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runner: Literal["threads", "processes", "ray"] = "threads"
    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] | None = None
    devices: tuple[Annotated[str, Field(max_length=100)], ...] = ()
    ray_address: Annotated[str, Field(max_length=1000)] | None = None
