"""A program: uvicorn on an inherited socket, which ends with its parent process.

flows/server/temporary.py starts it with the socket's number, the application and Prefect's home. The parent holds the
other end of standard input. That pipe closes however the parent ends, so no server stays behind.
"""

import fcntl
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

READY = b"ready\n"
LOCK = "start.lock"


def end_with_owner() -> None:
    """Exit when standard input closes. A read through `sys.stdin` would hold a lock that Python's exit needs."""
    while os.read(0, 4096):
        pass
    os._exit(0)


@contextmanager
def start_alone(home: str) -> Iterator[None]:
    """Let one server of a home start at a time: a start changes the schema of the home's database.

    Two servers that create the same tables would break each other. The lock ends with its process.
    """
    with open(os.path.join(home, LOCK), "a") as file:
        with suppress(OSError):  # on a filesystem without locks, start all the same
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another server that prepares the database in {home}", file=sys.stderr, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Serve the application on the inherited socket until the parent ends."""
    threading.Thread(target=end_with_owner, daemon=True).start()
    import uvicorn

    class Server(uvicorn.Server):
        """Writes a line on standard output when it answers."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Start, then write the line."""
            with start_alone(sys.argv[3]):
                await super().startup(sockets)
            os.write(1, READY)

    listening = socket.socket(fileno=int(sys.argv[1]))
    Server(uvicorn.Config(sys.argv[2], factory=True, log_level="error", lifespan="on")).run(sockets=[listening])


if __name__ == "__main__":
    main()
