"""A project of a user whose modules have the names of our folders, as half of all Prefect and Django projects do."""

from pathlib import Path

TEST = """
import catalog, flows, schemas, tasks
from tailforge import collate, list_datasets, open_dataset

def test_both_are_there():
    assert (tasks.MINE, flows.MINE, catalog.MINE, schemas.MINE) == (1, 2, 3, 4)
    assert open_dataset.__module__ == "tailforge.catalog.reading.open_dataset"
"""
# A stack trace and an editor's jump to definition lead to the file that holds the code.
TRACE = """
import tailforge, traceback
try:
    tailforge.open_dataset("nowhere")
except tailforge.TailforgeError as error:
    print(traceback.extract_tb(error.__traceback__)[-1].filename)
"""


def write_project(folder: Path) -> Path:
    """Write tasks.py and the packages flows, catalog and schemas, with a test that imports them and ours."""
    folder.mkdir(parents=True)
    (folder / "tasks.py").write_text("MINE = 1\n")
    for number, name in enumerate(("flows", "catalog", "schemas"), 2):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"MINE = {number}\n")
    (folder / "test_mine.py").write_text(TEST)
    (folder / "trace.py").write_text(TRACE)
    return folder
