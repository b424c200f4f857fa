"""A real PostgreSQL for tests: Debian's package, started on a free port with its data in a temporary folder."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_S = 60


def find_binaries() -> Path | None:
    """Folder of the newest PostgreSQL's `initdb` and `pg_ctl`: Debian's own place, else PATH."""
    installed = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if installed:
        return max(installed, key=lambda path: int(path.parent.name))
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


needs_postgres = pytest.mark.skipif(
    find_binaries() is None, reason="PostgreSQL is not installed (Debian's package `postgresql`)"
)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def unprivileged() -> tuple[list[str], pwd.struct_passwd | None]:
    """What stands before a command so that it does not run as root, which PostgreSQL refuses; and that user."""
    if os.getuid() != 0:
        return [], None
    names = {user.pw_name for user in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"], user


@contextmanager
def run_postgres() -> Iterator[str]:
    """Address of a database `prefect` that ends with the test: `postgresql+asyncpg://...`."""
    binaries = find_binaries()
    assert binaries is not None
    before, user = unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="tailforge-postgres-"))
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    port, data = free_port(), folder / "data"

    def run(name: str, *words: str) -> None:
        command = [*before, str(binaries / name), *words]
        log = folder / "commands.log"
        with log.open("ab") as out:  # a pipe would stay open as long as the server that pg_ctl leaves behind
            made = subprocess.run(command, cwd=folder, stdout=out, stderr=out, timeout=2 * START_S)
        assert made.returncode == 0, log.read_text()

    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    control = ["-D", str(data), "-w", "-t", str(START_S)]
    try:
        run("initdb", "-D", str(data), "-U", "prefect", "--auth=trust", "--encoding=UTF8", "--locale=C")
        run("pg_ctl", "start", *control, "-l", str(folder / "server.log"), "-o", options)
        try:
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect")
            yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
        finally:
            run("pg_ctl", "stop", *control, "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
