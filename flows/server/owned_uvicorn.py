"""A program: uvicorn on an inherited socket, which ends with its parent process.

flows/server/temporary.py starts it with the socket's number and the application. The parent holds the other end of
standard input. That pipe closes however the parent ends, so no server stays behind.
"""

import os
import socket
import sys
import threading

READY = b"ready\n"


def end_with_owner() -> None:
    """Exit when standard input closes."""
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Serve the application on the inherited socket until the parent ends."""
    threading.Thread(target=end_with_owner, daemon=True).start()
    import uvicorn

    class Server(uvicorn.Server):
        """Writes a line on standard output when it answers."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Start, then write the line."""
            await super().startup(sockets)
            os.write(1, READY)

    listening = socket.socket(fileno=int(sys.argv[1]))
    Server(uvicorn.Config(sys.argv[2], factory=True, log_level="error", lifespan="on")).run(sockets=[listening])


if __name__ == "__main__":
    main()
