"""Prefect without a server of one's own: settings for the temporary server, set before Prefect is imported."""

import os
from pathlib import Path


def configure_prefect() -> None:
    """Give Prefect quiet defaults that any variable of the user's overrides. With PREFECT_API_URL only logging is set."""
    defaults = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the command reports errors itself; the page keeps all
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    }
    if not os.environ.get("PREFECT_API_URL"):
        state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        defaults |= {
            "PREFECT_HOME": f"{state}/tailforge/prefect",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
