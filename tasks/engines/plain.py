"""Define the engine "plain": text-to-image sampling with a diffusers pipeline's steps.

tasks/methods/sampling/plain.py holds the method.
"""

from tailforge.schemas.extras import when_called
from tailforge.schemas.settings.engines import PlainEngine
from tailforge.tasks.engines.contract import Engine


class PlainSampling(Engine[PlainEngine]):
    """Sampling without a search: the seed decides the noise of an image."""

    render = when_called("tasks.engines.work.plain", "render")
