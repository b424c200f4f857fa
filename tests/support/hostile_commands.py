"""Every command and reader on a version that somebody else made, in this process, with what they must hold."""

import io
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tailforge.catalog.exports.export import COPYING_FORMATS, FORMATS
from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.catalog.reading.version import open_version
from tailforge.catalog.store import Store
from tailforge.flows.samples.review import ReviewedSamples
from tailforge.flows.samples.review import open_version as open_review
from tailforge.schemas.errors import TailforgeError

NAME = "parts"
MOST_LINES = 15
HANG_S = 120
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork")
_started: list[str] = []
_listening = False


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if _listening and event in STARTS:
        _started.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_listen)


@dataclass
class Trial:
    """A version in a store of its own, a folder `out` that commands may fill, and what was seen so far.

    `box` holds nothing else, and enough folders lie between it and those that a few steps up do not leave it.
    """

    box: Path
    sample_ids: Sequence[str]
    teacher: Path | None = None
    problems: list[str] = field(default_factory=list)
    runs: int = 0
    refused: int = 0

    @property
    def root(self) -> Path:
        return self.box / "some" / "steps" / "down"

    @property
    def store(self) -> str:
        return str(self.root / "deep" / "store")

    @property
    def out(self) -> Path:
        return self.root / "out"


def list_commands(trial: Trial, *, heavy: bool) -> list[list[str]]:
    """Words of every command that takes a version, without --store; `heavy`: those that load models as well."""
    sample, out = trial.sample_ids[0], trial.out
    light = [
        ["list"],
        ["show", NAME],
        ["show", NAME, "--json"],
        ["verify", NAME],
        ["report", NAME, "--json"],
        ["diff", f"{NAME}@1.0.0", f"{NAME}@2.0.0", "--rows"],
        ["gc", "--json"],
        *(["export", NAME, "--format", kind, "--out", str(out / kind)] for kind in (*FORMATS, *COPYING_FORMATS)),
        ["regenerate", sample, "--dataset", NAME, "--out", str(out / "again.png")],
        ["explain", trial.sample_ids[-1], "--dataset", NAME, "--box", "1,1,5,5"],
        ["distill", NAME, "--test", NAME, "--out", str(out / "student"), "--steps", "1"],
        ["pretrain", NAME, "--use", "masked", "--batch", "999999", "--out", str(out / "encoder")],
    ]
    if not heavy or trial.teacher is None:
        return light
    named = ["--teacher", str(trial.teacher), "--steps", "1", "--batch", "2", "--images", "3"]
    return [
        *light,
        ["distill", NAME, "--test", f"{NAME}@1.0.0", "--out", str(out / "learnt"), *named],
        ["pretrain", NAME, "--use", "masked", "--steps", "1", "--batch", "2", "--out", str(out / "trained"),
         "--set", "patch_px=8", "--set", "width=32", "--set", "depth=1", "--set", "heads=2"],
    ]  # fmt: skip


def list_readers(trial: Trial) -> dict[str, Callable[[], object]]:
    """Every way to read a version but by a command."""

    def read(**options: Any) -> object:
        found = open_dataset(trial.store, name=NAME, **options)
        return [sample["key"] for sample in found], found.state_dict()

    def review() -> object:
        reviewed = open_review(NAME, trial.store)
        return [_look(reviewed, sample_id) for sample_id in list(reviewed.rows)[:8]], reviewed.list_samples()

    return {
        "decoded": read,
        "bytes": lambda: read(decode=False, split="test"),
        "verified": lambda: read(verify=True, shuffle_seed=3, shuffle_buffer=4),
        "review": review,
        "members": lambda: _read_members(trial.store),
    }


def _look(reviewed: ReviewedSamples, sample_id: str) -> None:
    """What the page of a review asks of a sample; its server answers errors of ours."""
    for read in (reviewed.read_image, reviewed.read_overlay):
        try:
            read(sample_id)
        except TailforgeError:
            continue


def _read_members(store: str) -> object:
    version = open_version(Store.open(store), NAME, "latest", ("manifest", "rejects"))
    rows = version.read_table("manifest", ("sample_id", "shard", "members")).to_pylist()
    return [version.read_member(row, "json") for row in rows]


def try_version(trial: Trial, *, heavy: bool = False, every: int = 1, first: int = 0) -> None:
    """Run everything, or `every` so many-th thing from the `first` on; `trial.problems` tells what did not hold."""
    before = list_files(trial.box)
    tries: list[Callable[[], None]] = [
        partial(_try_command, trial, words) for words in list_commands(trial, heavy=heavy)
    ]
    tries += [partial(_try_reader, trial, name, read) for name, read in list_readers(trial).items()]
    with working_in(trial.root / "deep"):
        for each in tries[first % every :: every]:
            shutil.rmtree(trial.out, ignore_errors=True)
            trial.out.mkdir()
            each()
    shutil.rmtree(trial.out)
    if strays := sorted(list_files(trial.box) - before)[:3]:
        trial.problems.append(f"files outside the given folders: {strays}")


def list_files(root: Path) -> set[str]:
    """Everything below a folder, but what commands keep in the store."""
    kept = ("explanations", "artifacts", "repairs", "reviews")
    found = {str(path.relative_to(root)) for path in root.rglob("*")}
    return {path for path in found if not any(f"/store/{name}" in f"/{path}" for name in kept)}


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """In another current folder."""
    here = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)


@contextmanager
def watched(trial: Trial, what: str) -> Iterator[None]:
    """Neither hangs nor starts a program."""
    global _listening

    def end(*_: object) -> None:
        raise TimeoutError(f"it hangs for {HANG_S} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(HANG_S)
    _started.clear()
    _listening = True
    try:
        yield
    finally:
        _listening = False
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        trial.runs += 1
        if _started:
            trial.problems.append(f"{what}: it started {_started[0]}")


def _try_command(trial: Trial, words: Sequence[str]) -> None:
    from tailforge.flows.cli.commands import main

    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["tailforge", *words, "--store", trial.store]
    code: Any = 0
    what = " ".join(words[:4])
    try:
        with watched(trial, what), redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        trial.problems.append(f"{what}: {traceback.format_exc()[-1500:]}")
        return
    finally:
        sys.argv = argv
    said = err.getvalue()
    trial.refused += code != 0
    if code == 0 and "Traceback" not in said:
        return
    is_clear = said.count("error: ") >= 1 and len(said.splitlines()) <= MOST_LINES and "Traceback" not in said
    if code != 2 or not is_clear:
        trial.problems.append(f"{what}: exit {code}, {len(said.splitlines())} lines: {said[-800:]}")


def _try_reader(trial: Trial, what: str, read: Callable[[], object]) -> None:
    try:
        with watched(trial, what):
            read()
    except TailforgeError as error:
        trial.refused += 1
        if error.exit_code != 2 or len(str(error).splitlines()) > MOST_LINES:
            trial.problems.append(f"{what}: {type(error).__name__}: {str(error)[-800:]}")
    except BaseException:
        trial.problems.append(f"{what}: {traceback.format_exc()[-1500:]}")
