"""Look at what builds and reports use beside this program: a Prefect server, a browser, fonts."""

import os
import shutil
import subprocess
from collections.abc import Iterator

from tailforge.flows.doctor.findings import Finding
from tailforge.flows.server.local_prefect import API
from tailforge.schemas.extras import when_called

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FAMILY = "sans-serif"  # that reports name
ANSWERS_S = 20.0
require_server = when_called("flows.server.access", "require_server")


def look_at_server() -> Iterator[Finding]:
    """Yield whether the Prefect server of PREFECT_API_URL answers. Errors: OrchestrationError."""
    if not os.environ.get(API):
        yield Finding("Prefect server", "ok", f"{API} names none: a build starts a temporary one")
        return
    yield Finding("Prefect server", "ok", f"{require_server()} answers")


def look_at_browser() -> Iterator[Finding]:
    """Yield the Chromium and the fonts that show reports."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        mend = "install Debian's package `chromium`, or open reports on another machine"
        yield Finding("Chromium", "limited", "not found: `report --open` needs a browser", mend)
    else:
        yield Finding("Chromium", "ok", found)

    matched = match_font()
    if not matched:
        mend = "install Debian's packages `fontconfig` and `fonts-dejavu-core`"
        yield Finding("fonts", "limited", f"no font for {FAMILY}: texts of a report may be boxes", mend)
    else:
        yield Finding("fonts", "ok", matched)


def match_font() -> str:
    """Return the font that fontconfig finds for the family of reports; empty without any."""
    program = shutil.which("fc-match")
    if program is None:
        return ""
    try:
        return subprocess.run([program, FAMILY], capture_output=True, text=True, timeout=ANSWERS_S).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
