import numpy as np
import pytest

from tailforge.tasks.methods.embedded.measure import count_confusions, plan_requests, tabulate
from tailforge.tasks.methods.workshop import MATERIALS, PARTS, SURFACES


def test_requests_are_balanced_and_their_seeds_differ() -> None:
    requests = plan_requests(30, seed=1)
    assert len({request.seed for request in requests}) == len(requests) == 360
    pairs = {request.labels[1:] for request in requests[:30]}
    assert len(pairs) == len(MATERIALS) * len(SURFACES)
    assert requests == plan_requests(30, seed=1)


def test_table_counts_what_the_judge_saw() -> None:
    requests = plan_requests(10, seed=1)
    judged = np.array([request.labels for request in requests])
    hook = PARTS.index("hook")
    washer = PARTS.index("washer")
    judged[(judged[:, 0] == hook).nonzero()[0][:4], 0] = washer
    rows = {(row["arm"], row["metric"]): row["value"] for row in tabulate(requests, judged)}
    assert rows["hook", "success"] == pytest.approx(0.6)
    assert rows["tail", "success"] == pytest.approx(0.9)
    assert rows["head", "success"] == rows["hook", "material"] == 1.0
    assert count_confusions(requests, judged)["hook"] == {"hook": 6, "washer": 4}
