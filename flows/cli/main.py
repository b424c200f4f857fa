"""The start of the program `tailforge`: it handles signals before it imports the commands of flows/cli/commands.py."""

import os
import sys

from tailforge.flows.terminal.stopping import end_with_reader, hear_signals


def main() -> None:
    """Run the command line and end the process.

    Exit codes: 0 done, 2 the user's error, 1 a failure, 3 stopped at a limit of the command, 128 plus a signal's number
    when stopped by it.
    """
    open_missing_streams()
    with hear_signals():
        from tailforge.flows.cli.commands import run_command

        try:
            run_command()
        finally:
            end_with_reader()


def open_missing_streams() -> None:
    """Open /dev/null for each standard stream that was closed before the program began (`2>&-`).

    Otherwise the next opened file would get the stream's number. Child processes inherit the same streams.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


if __name__ == "__main__":
    main()
