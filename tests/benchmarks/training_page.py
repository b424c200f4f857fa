"""Rows and page of the benchmark of training; see training.py."""

from pathlib import Path


def write_results(work: Path, seeds: object) -> None: ...
