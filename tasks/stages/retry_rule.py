"""Options that every stage's Prefect task shares."""

from typing import Any

from prefect.cache_policies import NO_CACHE

from tailforge.schemas.errors import StoreError


def is_storage_error(_task: object, _run: object, state: Any) -> bool:
    """Retry what a lost connection can cause; a bad recipe or a bug fails at once."""
    return isinstance(state.result(raise_on_failure=False), StoreError | ConnectionError | TimeoutError)


# The content key of a stage is its artifact's address (tasks/artifacts/contract.py): the receipt in the store is the
# one cache, visible to every machine and checked against its file. A second cache in Prefect could only disagree.
STAGE_TASK: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [1, 5, 30],
    "retry_condition_fn": is_storage_error,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
