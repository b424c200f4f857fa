"""What a node of a Ray cluster must have before a build uses it; test_ray.py beside this runs a real cluster."""

from typing import Any

import pytest

from tailforge.schemas.errors import OrchestrationError, StoreAccessError, TailforgeError
from tailforge.tasks.artifacts.contract import library_versions

ray_cluster = pytest.importorskip("tailforge.flows.runners.ray_cluster")


def fit(**changes: Any) -> dict[str, Any]:
    return {"store": "token", "server": None, "missing": [], "versions": library_versions()} | changes


def test_a_node_that_has_everything_is_taken() -> None:
    ray_cluster.judge_node("10.0.0.2", fit(), "token", "/store")


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"store": "FileNotFoundError: no such file"}, StoreAccessError, "does not see the store /store"),
        ({"missing": ["/models/a"]}, OrchestrationError, "lacks /models/a; copy or mount"),
        ({"server": "ConnectError: refused"}, OrchestrationError, r"does not reach the Prefect server \(ConnectError"),
        ({"versions": library_versions() | {"torch": "1.0"}}, OrchestrationError, "other libraries: torch 1.0"),
        ({"versions": {}}, OrchestrationError, "other libraries: python None"),
    ],
)
def test_one_that_lacks_something_is_named(changes: dict[str, Any], kind: type[TailforgeError], words: str) -> None:
    with pytest.raises(kind, match=words) as raised:
        ray_cluster.judge_node("10.0.0.2", fit(**changes), "token", "/store")
    assert "10.0.0.2" in str(raised.value)
