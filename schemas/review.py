"""A person's decision on a sample."""

from typing import Literal

from pydantic import Field

from tailforge.schemas.settings.fields import Strict

Verdict = Literal["accept", "reject"]


class Review(Strict):
    """A decision as builds apply it. `image`: sha256 of the reviewed PNG; other images are not affected."""

    sample_id: str
    image: str
    decision: Verdict


class Decision(Review):
    """A stored decision, one row of REVIEWS. `decided_at`: ISO 8601, UTC."""

    reason: str = Field("", max_length=200)
    reviewer: str = Field("", max_length=80)
    decided_at: str
