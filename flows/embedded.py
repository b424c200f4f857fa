"""Prefect without a server of one's own: settings for the temporary server, set before Prefect is imported."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OWNER = "TAILFORGE_OWNER"  # process id and start time of the build that a temporary server belongs to


def configure_prefect() -> None:
    """Give Prefect quiet defaults, which any variable of the user's overrides; less with a PREFECT_API_URL."""
    defaults = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the command reports errors itself; the page keeps all
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    }
    if not os.environ.get("PREFECT_API_URL"):
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        home = state / "tailforge" / "prefect"
        with suppress(OSError):  # Prefect makes the last folder only; where none can be made, it says so itself
            home.mkdir(parents=True, exist_ok=True)
        defaults |= {
            "PREFECT_HOME": str(home),
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


@contextmanager
def share_server() -> Iterator[None]:
    """See that worker processes use this process's temporary server: without an address each would start its own."""
    if os.environ.get("PREFECT_API_URL"):
        yield
        return
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, temporary_settings

    server = SubprocessASGIServer()
    server.start()  # Prefect stops it when this process exits, after its last words were written
    os.environ["PREFECT_API_URL"] = server.api_url
    try:
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            yield
    finally:
        del os.environ["PREFECT_API_URL"]


def stop_orphaned_servers() -> int:
    """End the temporary servers of builds that were killed (Prefect cannot stop them then). Returns how many.

    Marks this process as the owner of the server that Prefect will start for it.
    """
    import psutil  # not there in a consumer's installation, which builds nothing

    me, stopped = psutil.Process(), 0
    os.environ[OWNER] = f"{me.pid}:{me.create_time()}"
    for process in psutil.process_iter(["cmdline"]):
        if "prefect.server.api.server:create_app" not in (process.info["cmdline"] or []):
            continue
        try:
            owner = process.environ().get(OWNER)
            if owner and not _runs(owner):
                process.terminate()
                stopped += 1
        except psutil.Error:
            continue
    return stopped


def _runs(owner: str) -> bool:
    import psutil

    pid, _, started = owner.partition(":")
    try:
        return bool(psutil.Process(int(pid)).create_time() == float(started))
    except psutil.NoSuchProcess:
        return False
