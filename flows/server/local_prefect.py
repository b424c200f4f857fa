"""Set up Prefect before its import: quiet defaults, a writable home, and no proxy for this machine."""

import ipaddress
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import OrchestrationError

API = "PREFECT_API_URL"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
EXCEPTIONS = ("no_proxy", "NO_PROXY")  # some programs read one, some the other
CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"
QUIET = "CRITICAL"


def configure_prefect() -> None:
    """Set quiet defaults for Prefect. The user's own variables win."""
    defaults = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        CONSOLE_LEVEL: QUIET,  # the command reports errors itself; the server keeps the log
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    }
    if not os.environ.get("PREFECT_HOME"):
        os.environ["PREFECT_HOME"] = str(find_home())
    give_home()
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    spare_loopback()


def explain_setting(error: Any) -> str | None:
    """Return which setting Prefect refuses, and why; None for an error that is not from Prefect's settings.

    Prefect reads its settings while it is imported. The answer leaves out the value, which may be a password.
    """
    module = sys.modules.get("prefect.settings.base")
    kinds = [] if module is None else list(_find_heirs(module.PrefectBaseSettings))
    title = getattr(error, "title", None)  # of pydantic's ValidationError
    if title not in [kind.__name__ for kind in kinds]:
        return None
    (prefix, *_) = [kind.model_config["env_prefix"] for kind in kinds if kind.__name__ == title]
    said = [f"{prefix}{each['loc'][0]}".upper() + f": {each['msg']}" for each in error.errors() if each["loc"]]
    return (
        f"Prefect refuses a setting. {'; '.join(said)}. Correct it in the environment, in Prefect's profile or in "
        "prefect.toml"
    )


def _find_heirs(kind: type[Any]) -> Iterator[type[Any]]:
    for heir in kind.__subclasses__():
        yield heir
        yield from _find_heirs(heir)


def show_logs() -> None:
    """Let Prefect print the logs of runs, here and in child processes. A level set by the user stays.

    A command whose builds run elsewhere needs this: otherwise it would print no outcome.
    """
    from prefect.logging.configuration import setup_logging

    if os.environ.get(CONSOLE_LEVEL) == QUIET:
        os.environ[CONSOLE_LEVEL] = "INFO"
        setup_logging()


def find_home() -> Path:
    """Return Prefect's home: the user's state folder, or a temporary folder if that cannot be written.

    With PREFECT_API_URL it is Prefect's own folder, which may hold the settings to reach that server.
    """
    try:
        if os.environ.get(API):
            home = Path.home() / ".prefect"
            if home.exists():
                return home
        else:
            home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "tailforge" / "prefect"
        prove_writable(home)
    except (OSError, RuntimeError):  # RuntimeError: no HOME, and a user that the system does not know
        home = fallback_home()
        with suppress(OSError):  # users of the home call `require_home`
            prove_writable(home)
    return home


def give_home() -> None:
    """Set HOME if it is missing and the system does not know the user: Prefect's import needs one."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(fallback_home().parent)


def fallback_home() -> Path:
    """Return a folder of this user within the folder for temporary files."""
    return Path(os.environ.get("TMPDIR") or "/tmp").absolute() / f"tailforge-{os.getuid()}" / "prefect"


def require_home(home: Path) -> None:
    """Check that this user owns Prefect's home and can write it. Errors: OrchestrationError."""
    mend = "set PREFECT_HOME to a folder that you can write, and run the same command again"
    try:
        prove_writable(home)
        owner = home.parent.stat().st_uid
    except OSError as error:
        raise OrchestrationError(f"PREFECT_HOME {home} cannot be written: {describe_failure(error)}; {mend}") from error
    if home == fallback_home() and owner != os.getuid():
        raise OrchestrationError(f"PREFECT_HOME {home} is in a folder of another user; {mend}")


def prove_writable(folder: Path) -> None:
    """Create a folder for this user alone and write into it. Errors: OSError."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return


def spare_loopback() -> None:
    """Exempt this machine from proxies, here and in child processes; other hosts keep their proxy."""
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in PROXIES):
        return
    hosts = [*LOOPBACK, *find_loopback(os.environ.get(API, ""))]
    known = {name: os.environ.get(name, "") for name in EXCEPTIONS}
    for name, other in zip(EXCEPTIONS, reversed(EXCEPTIONS), strict=True):
        given = [host.strip() for host in (known[name] or known[other]).split(",") if host.strip()]
        if "*" not in given:
            os.environ[name] = ",".join(dict.fromkeys([*given, *hosts]))


def find_loopback(address: str) -> list[str]:
    """Return the host of an address if it is this machine under an unusual name or number."""
    try:
        host = urlsplit(address).hostname or ""
        is_here = host.endswith(".localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return []
    return [host] if is_here else []
