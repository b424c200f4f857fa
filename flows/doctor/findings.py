"""What an examination of this machine finds: one line for each topic, and what to do about it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tailforge.schemas.documents.shown import shorten, show_line
from tailforge.schemas.errors import TailforgeError
from tailforge.schemas.extras import how_to_install, name_extra

# ok: as it should be. limited: builds work, with a limit. broken: builds do not work.
State = Literal["ok", "limited", "broken"]
LONGEST = 400  # characters of an unexpected error


@dataclass(frozen=True)
class Finding:
    """What was found on one topic. `mend`: what to do, empty for `ok`."""

    topic: str
    state: State
    found: str
    mend: str = ""


def examine(topic: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Return the findings of a look. Whatever it raises is a finding as well: an examination never breaks off."""
    findings: list[Finding] = []
    try:
        findings.extend(look())
    except ModuleNotFoundError as error:
        name = error.name or str(error)
        findings.append(Finding(topic, "broken", f"{name} is not installed", how_to_install(name_extra(name))))
    except TailforgeError as error:
        findings.append(Finding(topic, "broken", str(error), "do what the message says"))
    except Exception as error:  # broken libraries raise anything
        said = shorten(show_line(f"{type(error).__name__}: {error}"), LONGEST)
        findings.append(Finding(topic, "broken", f"it could not be examined: {said}", "report this line"))
    return findings
