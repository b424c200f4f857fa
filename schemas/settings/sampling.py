"""Settings of sampling, which all engines with a pipeline share."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from tailforge.schemas.settings.engine_settings import EngineSettings
from tailforge.schemas.settings.fields import Words


class SamplingSettings(EngineSettings):
    """Sampling of the generator, for any choice of noise."""

    steps: int = Field(20, ge=1, le=1000, description="Denoising steps.")
    # A build puts the default of the generator's kind in place of this one, which is that of small networks.
    guidance: float = Field(
        3.0,
        ge=0,
        le=50,
        description="Scale of classifier-free guidance; 1 or less: off. A generator of another kind than the embedded "
        "one has the default of its pipeline in diffusers (docs/explanation/generators.md).",
    )
    scheduler: Literal["model", "ddim", "dpmsolver++", "euler", "unipc"] = Field(
        "model", description="`model` keeps the scheduler saved with the generator."
    )
    batch_size: int = Field(16, ge=1, le=1024, description="Images per forward pass. Another size changes the bytes.")
    height: int | None = Field(None, ge=8, le=4096, multiple_of=8, description="Pixels; by default the model's own.")
    width: int | None = Field(None, ge=8, le=4096, multiple_of=8, description="Pixels; by default the model's own.")
    negative_prompt: Words = Field("", description="Prompt of guidance's unconditional half.")

    @property
    def sampling(self) -> "SamplingSettings":
        """Return these settings."""
        return self

    def find_idle(self) -> Iterator[str]:
        """Yield a line for a negative prompt without guidance."""
        if self.negative_prompt and self.guidance <= 1:
            yield (
                f"engine.negative_prompt has no effect with engine.guidance {self.guidance:g}, which switches guidance "
                "off; raise it above 1 or leave the prompt out"
            )
