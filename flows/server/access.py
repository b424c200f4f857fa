"""Check the Prefect server of PREFECT_API_URL: that it exists, answers and is new enough."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit
from uuid import UUID

import prefect
from packaging.version import InvalidVersion, Version
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled

from tailforge.schemas.errors import OrchestrationError

API = "PREFECT_API_URL"
BUILD_FLOW = "build-dataset"  # the flow's name on the server
ANSWERS_S = 10.0
# Prefect's client raises the connection errors of its HTTP library. To stay independent of that library, take the base
# class of the error that Prefect derives from it.
CONNECTION_ERROR: type[Exception] = PrefectHTTPStatusError.mro()[2]


def require_server() -> str:
    """Return the address of a server that answers. A temporary server would end with this process.

    Errors: OrchestrationError.
    """
    address = os.environ.get(API)
    mend = "start one by `prefect server start` and set PREFECT_API_URL=http://127.0.0.1:4200/api"
    if not address:
        raise OrchestrationError(f"this command needs a permanent Prefect server; {mend}")
    if not _is_http(address):
        raise OrchestrationError(f"{API} is no address; {mend}")  # it may hold a password: do not print it
    if error := ask_health(address):
        raise OrchestrationError(f"no Prefect server answers at {API} {address}: {error}; {mend}") from error
    return address


def _is_http(address: str) -> bool:
    """Return whether a text is an HTTP address with a valid port."""
    try:
        return urlsplit(address).scheme in ("http", "https") and urlsplit(address).port != 0
    except ValueError:
        return False


def ask_health(address: str) -> Exception | None:
    """Ask the server at an address once; return the error, or None if it is healthy."""
    once = temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0})
    try:
        with once, SyncPrefectClient(address, httpx_settings={"timeout": ANSWERS_S}) as client:
            return client.api_healthcheck()
    except (OSError, ValueError, RuntimeError) as error:  # an invalid address, missing certificates
        return error


@contextmanager
def server_answers(address: str) -> Iterator[None]:
    """Turn a server's refusal into one error with the request and the answer. Errors: OrchestrationError."""
    try:
        yield
    except PrefectHTTPStatusError as error:
        status, asked = error.response.status_code, error.request.url.path
        mend = "; set PREFECT_API_AUTH_STRING to the server's value" if status in (401, 403) else ""
        said = error.response.text[:200]
        raise OrchestrationError(f"the Prefect server at {address} refused {asked} ({status}): {said}{mend}") from error
    except CONNECTION_ERROR as error:
        raise OrchestrationError(
            f"the Prefect server at {address} went away: {error}; run the command again"
        ) from error


def mark_stopped(runs: Sequence[UUID]) -> None:
    """Mark stopped runs as cancelled on the server, which otherwise shows them as running; wait one second at most."""
    once = temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0})
    with once, SyncPrefectClient(os.environ[API], httpx_settings={"timeout": 1.0}) as client:
        for run in runs:
            client.set_flow_run_state(run, Cancelled(message="the command was stopped; run it again to continue"), True)


def require_version(client: SyncPrefectClient, address: str) -> str:
    """Return the server's version. Errors: OrchestrationError if it is older than the Prefect installed here."""
    found = client.request("GET", "/admin/version").json()
    try:
        old = Version(found) < Version(prefect.__version__)
    except (InvalidVersion, TypeError) as error:
        raise OrchestrationError(f"{API} {address} is no Prefect server: its version is {found!r}") from error
    if old:
        raise OrchestrationError(
            f"the Prefect server at {address} is {found}, older than the {prefect.__version__} that runs builds here; "
            f"install prefect=={prefect.__version__} where it runs, and start it again"
        )
    return str(found)
