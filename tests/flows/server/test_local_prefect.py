"""What is set before Prefect is imported."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from tailforge.flows.server.local_prefect import configure_prefect, find_home, require_home, spare_loopback
from tailforge.schemas.errors import OrchestrationError
from tests.support.repository import ROOT

LOOPBACK = "localhost,127.0.0.1,::1"


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """None of the variables that these tests are about, and all as it was afterwards."""
    names = ("NO_PROXY", "PREFECT_HOME", "PREFECT_API_URL", "XDG_STATE_HOME")
    with patch.dict(os.environ):
        for name in [name for name in os.environ if name.lower().endswith("_proxy") or name in names]:
            del os.environ[name]
        yield


@pytest.mark.parametrize("proxy", ["HTTP_PROXY", "https_proxy", "all_proxy"])
@pytest.mark.parametrize(
    ("given", "lower", "upper"),
    [
        ({}, LOOPBACK, LOOPBACK),
        ({"NO_PROXY": "a.org"}, f"a.org,{LOOPBACK}", f"a.org,{LOOPBACK}"),
        ({"no_proxy": "127.0.0.1, b.org"}, "127.0.0.1,b.org,localhost,::1", "127.0.0.1,b.org,localhost,::1"),
        ({"NO_PROXY": "a.org", "no_proxy": "b.org"}, f"b.org,{LOOPBACK}", f"a.org,{LOOPBACK}"),
        ({"NO_PROXY": "*"}, None, "*"),
        (
            {"PREFECT_API_URL": "http://127.0.0.2:4200/api"},
            f"{LOOPBACK},127.0.0.2",
            f"{LOOPBACK},127.0.0.2",
        ),
        ({"PREFECT_API_URL": "https://prefect.example.org/api"}, LOOPBACK, LOOPBACK),
    ],
)
def test_loopback_is_spared_and_other_hosts_are_not(
    proxy: str, given: dict[str, str], lower: str | None, upper: str
) -> None:
    os.environ |= given | {proxy: "http://proxy:3128"}
    spare_loopback()
    assert (os.environ.get("no_proxy"), os.environ["NO_PROXY"], os.environ[proxy]) == (
        lower,
        upper,
        "http://proxy:3128",
    )
    spare_loopback()
    assert os.environ["NO_PROXY"] == upper


def test_without_a_proxy_nothing_is_changed() -> None:
    spare_loopback()
    assert not {"NO_PROXY", "no_proxy"} & set(os.environ)


def test_a_home_of_the_user_is_kept_and_proved(tmp_path: Path) -> None:
    os.environ["PREFECT_HOME"] = str(tmp_path / "mine")
    configure_prefect()
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "mine")
    require_home(tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(OrchestrationError, match=rf"PREFECT_HOME {tmp_path}/file/home cannot be written: "):
        require_home(tmp_path / "file" / "home")


def test_the_home_is_in_the_users_state_folder_where_that_can_be_written(tmp_path: Path) -> None:
    os.environ["XDG_STATE_HOME"] = str(tmp_path)
    assert find_home() == tmp_path / "tailforge" / "prefect"
    (tmp_path / "file").write_text("")
    os.environ |= {"XDG_STATE_HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path / "scratch")}
    assert find_home() == tmp_path / "scratch" / f"tailforge-{os.getuid()}" / "prefect"


def test_with_a_server_of_the_users_the_home_is_prefects_own(tmp_path: Path) -> None:
    os.environ |= {"PREFECT_API_URL": "http://127.0.0.1:4200/api", "HOME": str(tmp_path)}
    assert find_home() == tmp_path / ".prefect"
    os.environ |= {"HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path)}
    (tmp_path / "file").write_text("")
    assert find_home() == tmp_path / f"tailforge-{os.getuid()}" / "prefect"


def test_a_setting_that_prefect_refuses_is_named(tmp_path: Path) -> None:
    # Prefect reads its settings while it is imported, so in a process of its own.
    words = [sys.executable, "-m", "tailforge", "build", "workshop", "--store", str(tmp_path)]
    env = os.environ | {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "S3KR3T"}
    made = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    assert made.returncode == 2
    (line,) = [each for each in made.stderr.splitlines() if each.startswith("error: ")]
    assert "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: Input should be a valid integer" in line
    assert "S3KR3T" not in line
    assert "Traceback" not in made.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user that the system does not know")
@pytest.mark.parametrize("home", [None, "/"])
def test_a_user_that_the_system_does_not_know_gets_a_home(home: str | None) -> None:
    code = (
        "import os\nfrom pathlib import Path\n"
        "from tailforge.flows.server.local_prefect import configure_prefect, require_home\n"
        "os.setgid(54321); os.setuid(54321)\n"  # now: the interpreter may lie where that user cannot read
        "configure_prefect(); require_home(Path(os.environ['PREFECT_HOME']))\n"
        "print(os.environ['PREFECT_HOME'], Path.home())"
    )
    place = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's folders are closed to that user
    place.chmod(0o777)
    env = {name: value for name, value in os.environ.items() if name != "HOME"} | ({"HOME": home} if home else {})
    env["TMPDIR"] = str(place)
    try:
        made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    assert made.stdout.split() == [f"{place}/tailforge-54321/prefect", home or f"{place}/tailforge-54321"], made.stderr
