"""A build on a real Ray cluster of which one worker dies in the middle ends byte-equal to a build on threads."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ray_cluster import SETTINGS, RayCluster, free_port, kill_tree
from tests.support.workers import (
    ONE_THREAD,
    count_loads,
    end_build,
    larger_recipe,
    made_samples,
    published,
    start_build,
    wait_for,
)

pytestmark = [pytest.mark.slow, pytest.mark.flow, pytest.mark.timeout(900)]
ENVIRONMENT = ONE_THREAD | SETTINGS


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with RayCluster() as started:
        yield started


def test_a_killed_node_changes_no_byte_and_no_worker_loads_a_model_twice(
    tiny_recipe: Path, tmp_path: Path, prefect_server: str, cluster: RayCluster
) -> None:
    larger_recipe(tiny_recipe)
    lost, _ = cluster.add_workers(2)
    store = tmp_path / "ray"
    build = start_build(tiny_recipe, store, "--runner", "ray", "--ray-address", cluster.address, env=ENVIRONMENT)
    wait_for(build, lambda: len(made_samples(store)) >= 3)
    kill_tree(lost)
    drawn = len(made_samples(store))
    code, _, err = end_build(build)
    assert code == 0, err
    assert drawn < len(made_samples(store)), "the node was killed after the synthesis"
    loads = count_loads(store)
    assert len(loads) >= 2
    assert set(loads.values()) == {1}

    code, _, err = end_build(start_build(tiny_recipe, tmp_path / "threads"))
    assert code == 0, err
    assert published(store) == published(tmp_path / "threads") != {}


def test_a_build_needs_a_cluster_that_answers_and_starts_none(
    tiny_recipe: Path, tmp_path: Path, prefect_server: str
) -> None:
    address = f"127.0.0.1:{free_port()}"
    words = ["--runner", "ray", "--ray-address", address]
    code, _, err = end_build(start_build(tiny_recipe, tmp_path / "store", *words, env=ENVIRONMENT))
    assert code == 1
    assert f"no Ray cluster can be joined at {address}" in err
    assert "Traceback" not in err
