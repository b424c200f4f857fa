"""Derive the bounds of quality gates from the scores of photographs."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.settings.gates import DEFAULT_GATES, Gate

LOW, HIGH = 0.01, 0.99  # quantiles of the photographs' scores
FEWEST = 20  # photographs from which quantiles say something
ROOM = 0.5  # of the distance between the quantiles, on each side
FACTOR = 4.0  # for sharpness, which a generator's autoencoder lowers and its noise raises


def derive_gates(scores: Mapping[str, NDArray[np.float64]]) -> dict[str, Gate]:
    """Return gates for brightness, contrast, clipped and sharpness, from scores [photographs] of these names.

    A bound is the 1 % or 99 % quantile with room: half of the distance between both, for sharpness a factor of 4.
    Numbers are rounded outwards to two digits. Below 20 photographs the default gates are returned.
    """
    if len(scores["sharpness"]) < FEWEST:
        return dict(DEFAULT_GATES)
    spans = {name: np.quantile(values, (LOW, HIGH)).tolist() for name, values in scores.items()}
    gates = {}
    for name in ("brightness", "contrast"):
        low, high = spans[name]
        room = ROOM * (high - low)
        gates[name] = _bound(low - room, high + room if name == "brightness" else None, most=1.0)
    gates["clipped"] = _bound(None, spans["clipped"][1] + ROOM * (1 - spans["clipped"][1]), most=1.0)
    low, high = spans["sharpness"]
    gates["sharpness"] = _bound(low / FACTOR, high * FACTOR)
    return {name: gate for name, gate in gates.items() if gate is not None}


def _bound(low: float | None, high: float | None, most: float = np.inf) -> Gate | None:
    """Return the gate with bounds above 0 and below `most`; None without any."""
    bounds = {}
    if low is not None and (least := _round(low, up=False)) > 0:
        bounds["min"] = least
    if high is not None and (largest := _round(high, up=True)) < most:
        bounds["max"] = largest
    return Gate(**bounds) if bounds else None


def _round(value: float, *, up: bool) -> float:
    """Return the value with two digits, rounded outwards."""
    if value <= 0:
        return 0.0
    step = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(f"{(np.ceil(value / step) if up else np.floor(value / step)) * step:.2g}")
