"""Options of the Prefect tasks of all stages."""

from typing import Any

from prefect.cache_policies import NO_CACHE

from tailforge.schemas.errors import StoreError


def is_storage_error(_task: object, _run: object, state: Any) -> bool:
    """Return whether a lost connection can have caused the error, so that a retry may help."""
    return isinstance(state.result(raise_on_failure=False), StoreError | ConnectionError | TimeoutError)


# The receipt in the store (tasks/artifacts/contract.py) is the only cache: every machine sees it, and it is checked
# against its file. A second cache in Prefect could only disagree.
STAGE_TASK: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [1, 5, 30],
    "retry_condition_fn": is_storage_error,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
