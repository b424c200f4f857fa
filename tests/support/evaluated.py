"""The record of an evaluation of two classes, at its smallest."""

from typing import Any

VERDICTS = {"gain": "the version helps", "loss": "the version harms", "no difference": "no difference is shown"}


def make_figure(value: float, half: float = 0.02) -> dict[str, float]:
    """A figure with its interval."""
    return {"value": value, "low": round(value - half, 6), "high": round(value + half, 6)}


def make_record(outcome: str = "gain", name: str = "hook") -> dict[str, Any]:
    """A record whose rare class is `name`; recall 0.3 without the version and 0.5 with it."""
    gain, macro = ({**make_figure(value, 0.05), "verdict": outcome} for value in (0.2, 0.105))
    return {
        "format": "tailforge-evaluation/1",
        "version": "tiny@1.0.0",
        "verdict": f"{VERDICTS[outcome]}: recall of rare classes +20.0 points, mixed at share 0.5",
        "real": "inspection",
        "baseline": "balanced",
        "settings": {"seeds": 5, "steps": 400, "model": "residual-small", "few": 20},
        "classes": [
            {"name": "gear", "group": "medium", "train": 40, "test": 10, "synthetic": {}},
            {"name": name, "group": "few", "train": 5, "test": 10, "synthetic": {"tiny@1.0.0": 3}},
        ],
        "arms": [_make_arm("balanced", "", 0.8, 0.3, name), _make_arm("mixed", "share 0.5", 0.81, 0.5, name)],
        "doses": [
            {"arm": "mixed", "share": share, "tail": make_figure(tail), "macro": make_figure(0.6)}
            for share, tail in ((0.25, 0.4), (0.5, 0.5))
        ],
        "gains": [{"arm": "mixed", "gain_tail": gain, "gain_macro": macro}],
        "exchange": {
            "images": 5,
            "synthetic": 40,
            "tail": make_figure(0.5),
            "points": [{"images": n, "tail": make_figure(tail)} for n, tail in ((5, 0.3), (11, 0.5), (23, 0.6))],
            "worth": {"value": 6, "low": 4, "high": None, "last": 18, "extrapolated": False},
            "per_hundred": {"value": 15.0, "low": 10.0, "high": None, "last": 45.0},
        },
    }


def _make_arm(arm: str, setting: str, gear: float, rare: float, name: str) -> dict[str, Any]:
    recall = [{"class": "gear", **make_figure(gear)}, {"class": name, **make_figure(rare)}]
    return {
        "arm": arm,
        "setting": setting,
        "tail": make_figure(rare),
        "macro": make_figure((gear + rare) / 2),
        "recall": recall,
    }
