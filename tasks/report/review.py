"""Draw the page of a review. It requests samples from its server and shows them as text."""

import jinja2

REASONS = (
    "wrong object",
    "deformed",
    "several objects",
    "cut off",
    "blurred",
    "text or watermark",
    "bad mask",
    "caption does not fit",
    "seen before",
)  # keys 1 to 9; our choice


def draw_review(label: str, template: str, nonce: str) -> str:
    """Return the HTML text.

    `label`: dataset@version; `template`: text of tasks/report/templates/review.html.j2; `nonce`: for the page's policy.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template).render(label=label, reasons=REASONS, nonce=nonce)
