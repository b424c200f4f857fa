"""What a person decided on a sample after looking at it."""

from typing import Literal

from pydantic import Field

from tailforge.schemas.settings.fields import Strict

Verdict = Literal["accept", "reject"]


class Review(Strict):
    """A decision as a build honours it. `image`: sha256 of the PNG that was looked at; it counts only for that."""

    sample_id: str
    image: str
    decision: Verdict


class Decision(Review):
    """A decision as it is kept, a row of REVIEWS; `decided_at` is ISO 8601, UTC."""

    reason: str = Field("", max_length=200)
    reviewer: str = Field("", max_length=80)
    decided_at: str
