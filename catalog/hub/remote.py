"""Reach the Hugging Face Hub by `huggingface_hub`: the token of the environment, and one line for each failure.

`HF_ENDPOINT` names another server than https://huggingface.co. The token is read from `HF_TOKEN` alone, never from a
file, and is in no message.
"""

import importlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tailforge.schemas.documents.shown import describe_failure, shorten, show_text
from tailforge.schemas.errors import HubError, NotFoundError, TailforgeError, UserError
from tailforge.schemas.extras import import_extra

TOKEN = "HF_TOKEN"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
DATASET, MODEL = "dataset", "model"  # kinds of repositories
KEPT = "run the same command again; what was transferred is kept"


def require_repository(name: str) -> str:
    """Return a repository's name unchanged. Errors: UserError for a name that is not owner/name."""
    if not REPOSITORY.fullmatch(name):
        raise UserError(f"{show_text(name)} is no repository of the Hub; give OWNER/NAME")
    return name


def connect(*, writing: bool) -> Any:
    """Return the client (`huggingface_hub.HfApi`) with the token of the environment, or without one for reading.

    Errors: UserError for a lacking or impossible token; MissingExtraError.
    """
    hub = import_extra("huggingface_hub", "the Hugging Face Hub")
    token = os.environ.get(TOKEN, "").strip()
    if not token and writing:
        raise UserError(f"{TOKEN} is not set; make a token that may write on the Hub's settings page, and set it")
    if not re.fullmatch(r"[!-~]*", token):
        raise UserError(f"{TOKEN} holds characters that no token has; set it again")

    # The client's own lines would stand between ours.
    utils = importlib.import_module("huggingface_hub.utils")
    utils.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        utils.disable_progress_bars()
    return hub.HfApi(token=token or False, library_name="tailforge")


def file_address(repository: str, revision: str, place: str) -> str:
    """Return the URL of a file of a data set repository. Errors: MissingExtraError."""
    hub = import_extra("huggingface_hub", "the Hugging Face Hub")
    return str(hub.hf_hub_url(repository, place, repo_type=DATASET, revision=revision))


def list_tags(hub: Any, repository: str, kind: str) -> dict[str, str]:
    """Return the commit of each tag of a repository. Errors: those of the client."""
    return {tag.name: tag.target_commit for tag in hub.list_repo_refs(repository, repo_type=kind).tags}


@contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Translate every error of the client, which raises those of several libraries.

    Errors: UserError for a refused request, NotFoundError for a lacking repository, revision or file, and HubError for
    what another attempt may solve.
    """
    try:
        yield
    except TailforgeError:
        raise
    except Exception as error:
        raise explain(error, repository) from error


def explain(error: BaseException, repository: str) -> TailforgeError:
    """Return the project's error for one of the client."""
    response = _find_response(error)
    code = response.headers.get("X-Error-Code", "") if response is not None else ""
    status = response.status_code if response is not None else None
    if code in ("RevisionNotFound", "EntryNotFound"):
        what = "this version" if code == "RevisionNotFound" else "this file of a version"
        return NotFoundError(f"{repository} on the Hub does not hold {what}; push it by `tailforge push`")
    if status == 401 and code != "RepoNotFound":
        return UserError(f"the Hub refuses the token in {TOKEN} (401); make another, and set it")
    if code == "RepoNotFound" or status in (401, 404):
        return NotFoundError(
            f"the Hub has no repository {repository}, or it is private and {TOKEN} may not read it; check both"
        )

    if status in (402, 403):
        return UserError(f"the Hub refuses this to the owner of {TOKEN} ({status}) in {repository}; use another token")
    if status is not None and status < 500 and status not in (408, 409, 425, 429):
        said = response.headers.get("X-Error-Message") or "without a reason"
        return UserError(f"the Hub refuses a request for {repository} ({status}): {show_text(said)}")
    if status is not None:
        return HubError(f"the Hub failed to answer for {repository} ({status}); {KEPT}")
    # Threads of an upload wrap the error that says what happened.
    while error.__cause__ is not None:
        error = error.__cause__
    reason = describe_failure(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return HubError(f"the transfer from or to {repository} on the Hub failed: {shorten(reason)}; {KEPT}")


def _find_response(error: BaseException | None) -> Any:
    """Return the server's answer that led to an error, or None."""
    while error is not None:
        if (response := getattr(error, "response", None)) is not None:
            return response
        error = error.__cause__
    return None
