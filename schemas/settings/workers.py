"""Settings of the workers that run a build's steps."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tailforge.schemas.options import MOST_WORKERS


class WorkerSettings(BaseModel):
    """The runner of a build.

    `workers`: most workers, by default as the runner decides. `devices`: names of the devices for processes.
    `ray_address`: host:port of a Ray head.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    runner: Literal["threads", "processes", "ray"] = "threads"
    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] | None = None
    devices: tuple[Annotated[str, Field(max_length=100)], ...] = ()
    ray_address: Annotated[str, Field(max_length=1000)] | None = None
