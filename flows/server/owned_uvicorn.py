"""A program: uvicorn on a socket that it inherits, for as long as the process that started it lives.

Started by flows/server/temporary.py with the socket's number and the application. Standard input is a pipe of which the
owner holds the other end: it closes when the owner ends, however it ends, so no server is ever left behind.
"""

import os
import socket
import sys
import threading

READY = b"ready\n"


def end_with_owner() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    threading.Thread(target=end_with_owner, daemon=True).start()
    import uvicorn

    class Server(uvicorn.Server):
        """Says on standard output when it answers."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            os.write(1, READY)

    listening = socket.socket(fileno=int(sys.argv[1]))
    Server(uvicorn.Config(sys.argv[2], factory=True, log_level="error", lifespan="on")).run(sockets=[listening])


if __name__ == "__main__":
    main()
