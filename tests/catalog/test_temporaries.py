"""What is being written under a temporary name goes when its writer does, whatever ends it, and never before."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tailforge.catalog.store import Store
from tailforge.catalog.temporaries import drop_held, hold_file, hold_folder, remove_abandoned
from tests.support.repository import ROOT

WRITE = """
import sys
from tailforge.catalog.temporaries import hold_file, hold_folder
with hold_file(sys.argv[1] + "/table.parquet") as out, hold_folder(sys.argv[1] + "/.tmp-version"):
    out.write(b"half")
    out.flush()
    open(sys.argv[1] + "/.tmp-version/manifest.parquet", "wb").close()
    print("writing", flush=True)
    sys.stdin.read()
"""


def start_writer(folder: Path) -> subprocess.Popen[str]:
    """A process that writes a file and a folder until it is killed."""
    words = [sys.executable, "-c", WRITE, str(folder)]
    writer = subprocess.Popen(words, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    return writer


def test_what_a_killed_process_was_writing_goes_and_what_is_written_stays(tmp_path: Path) -> None:
    (tmp_path / "table.parquet").write_bytes(b"whole")
    writer = start_writer(tmp_path)
    try:
        writing = sorted(os.listdir(tmp_path))
        remove_abandoned(str(tmp_path))
        assert sorted(os.listdir(tmp_path)) == writing
        assert len(writing) == 3
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    assert sorted(os.listdir(tmp_path)) == writing
    remove_abandoned(str(tmp_path))
    assert os.listdir(tmp_path) == ["table.parquet"]


def test_a_store_removes_what_was_left_where_it_writes(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts" / "masks"
    folder.mkdir(parents=True)
    writer = start_writer(folder)
    writer.kill()
    writer.communicate()
    Store.open(str(tmp_path)).write_bytes("artifacts/masks/part-00000.json", b"{}")
    assert os.listdir(folder) == ["part-00000.json"]


def test_names_of_others_and_links_stay(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b"mine")
    (tmp_path / ".tmp-link").symlink_to(kept)
    (tmp_path / "tmp-notes").write_bytes(b"")
    remove_abandoned(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == [".tmp-link", "kept", "tmp-notes"]
    remove_abandoned(str(tmp_path / "missing"))


def test_a_process_that_ends_at_once_drops_what_it_is_writing(tmp_path: Path) -> None:
    staging = tmp_path / ".tmp-version"
    with hold_file(str(tmp_path / "table.parquet")) as out, hold_folder(str(staging)):
        out.write(b"half")
        (staging / "manifest.parquet").write_bytes(b"half")
        drop_held()
        assert os.listdir(tmp_path) == []
        with pytest.raises(FileNotFoundError):  # so nothing can be published any more
            os.rename(staging, tmp_path / "1.0.0")


def test_what_was_published_before_is_not_dropped(tmp_path: Path) -> None:
    with hold_folder(str(tmp_path / ".tmp-version")):
        (tmp_path / ".tmp-version" / "dataset.json").write_bytes(b"{}")
        os.rename(tmp_path / ".tmp-version", tmp_path / "1.0.0")
        drop_held()
    assert os.listdir(tmp_path) == ["1.0.0"]
    assert os.listdir(tmp_path / "1.0.0") == ["dataset.json"]


@pytest.mark.timeout(120)
def test_a_signal_in_the_moment_in_which_a_name_is_noted_waits_for_nothing(tmp_path: Path) -> None:
    class Interrupted(str):
        """A name during whose hashing, for the list of names, this thread ends at once, as a signal's handler does."""

        def __hash__(self) -> int:
            drop_held()
            return super().__hash__()

    with hold_folder(Interrupted(tmp_path / ".tmp-version")):
        assert os.listdir(tmp_path) == [".tmp-version"]
    assert os.listdir(tmp_path) == []
