"""Prefect without a server of one's own: settings for the temporary server, set before Prefect is imported."""

import os
from pathlib import Path


def configure_prefect() -> None:
    """Give Prefect quiet defaults, which any variable of the user's overrides; less with a PREFECT_API_URL."""
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


def stop_orphaned_servers() -> int:
    """End the temporary servers whose build was killed (Prefect cannot stop its own then). Returns how many.

    Only servers of this user with the same PREFECT_HOME whose parent is gone.
    """
    import psutil  # not there in a consumer's installation, which builds nothing

    stopped = 0
    for process in psutil.process_iter(["ppid", "cmdline"]):
        command = process.info["cmdline"] or []
        if process.info["ppid"] != 1 or "prefect.server.api.server:create_app" not in command:
            continue
        try:
            if process.environ().get("PREFECT_HOME") == os.environ.get("PREFECT_HOME"):
                process.terminate()
                stopped += 1
        except psutil.Error:
            continue
    return stopped
