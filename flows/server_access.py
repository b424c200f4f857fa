"""The Prefect server of PREFECT_API_URL: is there one, does it answer, is it new enough."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import prefect
from packaging.version import InvalidVersion, Version
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import PrefectHTTPStatusError

from schemas.errors import OrchestrationError

API = "PREFECT_API_URL"
BUILD_FLOW = "build-dataset"  # the flow's name on the server
ANSWERS_S = 10.0


def require_server() -> str:
    """The address of a server that answers. A temporary one would end with this process, and its schedule with it.

    Errors: OrchestrationError.
    """
    address = os.environ.get(API)
    mend = "start one by `prefect server start` and set PREFECT_API_URL=http://127.0.0.1:4200/api"
    if not address:
        raise OrchestrationError(f"this needs a Prefect server that stays; {mend}")
    try:
        httpx.get(f"{address}/health", timeout=ANSWERS_S).raise_for_status()
    except httpx.HTTPError as error:
        raise OrchestrationError(f"no Prefect server answers at {API} {address}: {error}; {mend}") from error
    return address


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
    except httpx.HTTPError as error:
        raise OrchestrationError(
            f"the Prefect server at {address} went away: {error}; give the command again"
        ) from error


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
