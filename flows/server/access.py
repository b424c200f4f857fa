"""The Prefect server of PREFECT_API_URL: is there one, does it answer, is it new enough."""

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
# Prefect's client raises errors of the connection as its HTTP library does. Which one that is, is Prefect's affair: the
# base of all its errors is found behind the one that Prefect derives from it.
CONNECTION_ERROR: type[Exception] = PrefectHTTPStatusError.mro()[2]


def require_server() -> str:
    """The address of a server that answers. A temporary one would end with this process, and its schedule with it.

    Errors: OrchestrationError.
    """
    address = os.environ.get(API)
    mend = "start one by `prefect server start` and set PREFECT_API_URL=http://127.0.0.1:4200/api"
    if not address:
        raise OrchestrationError(f"this needs a Prefect server that stays; {mend}")
    if not _is_http(address):
        raise OrchestrationError(f"{API} is no address; {mend}")  # it may hold a password, so it is not repeated
    if error := ask_health(address):
        raise OrchestrationError(f"no Prefect server answers at {API} {address}: {error}; {mend}") from error
    return address


def _is_http(address: str) -> bool:
    try:
        return urlsplit(address).scheme in ("http", "https") and urlsplit(address).port != 0
    except ValueError:
        return False


def ask_health(address: str) -> Exception | None:
    """What is wrong with the server at an address, asked once; None if it is well."""
    once = temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0})
    try:
        with once, SyncPrefectClient(address, httpx_settings={"timeout": ANSWERS_S}) as client:
            return client.api_healthcheck()
    except (OSError, ValueError, RuntimeError) as error:  # an address that is none, certificates that are missing
        return error


@contextmanager
def server_answers(address: str) -> Iterator[None]:
    """A server's refusal becomes one error that says what it was asked and what it said. Errors: OrchestrationError."""
    try:
        yield
    except PrefectHTTPStatusError as error:
        status, asked = error.response.status_code, error.request.url.path
        mend = "; set PREFECT_API_AUTH_STRING as the server has it" if status in (401, 403) else ""
        said = error.response.text[:200]
        raise OrchestrationError(f"the Prefect server at {address} refused {asked} ({status}): {said}{mend}") from error
    except CONNECTION_ERROR as error:
        raise OrchestrationError(
            f"the Prefect server at {address} went away: {error}; give the command again"
        ) from error


def mark_stopped(runs: Sequence[UUID]) -> None:
    """Tell the server that runs were stopped, which it would show as running for ever; a second is all it gets."""
    once = temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0})
    with once, SyncPrefectClient(os.environ[API], httpx_settings={"timeout": 1.0}) as client:
        for run in runs:
            client.set_flow_run_state(
                run, Cancelled(message="the command was stopped; it goes on when given again"), True
            )


def require_version(client: SyncPrefectClient, address: str) -> str:
    """The server's version. Errors: OrchestrationError if it is older than the Prefect that is installed here."""
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
