"""The site builds in strict mode; a broken link, an orphan page and an undocumented public name are errors."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tailforge.flows.cli.reference_library import describe
from tests.support.repository import ROOT


def build(pages: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run Sphinx as `make docs` does."""
    options = ["--quiet", "--fail-on-warning", "--keep-going", "--nitpicky"]
    command = [sys.executable, "-m", "sphinx", *options, str(pages), str(out)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_the_site_builds(tmp_path: Path) -> None:
    made = build(ROOT / "docs", tmp_path / "site")
    assert made.returncode == 0, made.stderr
    assert "open_dataset" in (tmp_path / "site" / "reference" / "api.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        ("# Pages\n\n[lost](lost.md)\n", "lost.md"),
        ("# Pages\n\n[lost](other.md#lost)\n\n```{toctree}\nother.md\n```\n", "lost"),
        ("# Pages\n", "toctree"),
    ],
    ids=["a broken link", "a broken anchor", "an orphan page"],
)
def test_a_fault_of_the_pages_is_an_error(index: str, complaint: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "docs" / "conf.py", tmp_path)
    (tmp_path / "index.md").write_text(index)
    (tmp_path / "other.md").write_text("# Other\n")
    made = build(tmp_path, tmp_path / "site")
    assert made.returncode != 0
    assert complaint in made.stderr


def test_a_public_name_without_a_docstring_is_an_error() -> None:
    def bare() -> None: ...

    with pytest.raises(LookupError, match="bare, which has no docstring"):
        describe("bare", bare, "##")


def test_make_docs_is_strict() -> None:
    shown = subprocess.run(["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--fail-on-warning" in shown
