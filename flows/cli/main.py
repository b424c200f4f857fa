"""Where the program `tailforge` begins: it hears signals before it imports the commands, flows/cli/commands.py."""

import os
import sys

from tailforge.flows.terminal.stopping import end_with_reader, hear_signals


def main() -> None:
    """Run the command line and end: 0 done, 2 the user's error, 1 a failure, 128 and a signal's number when stopped."""
    open_missing_streams()
    with hear_signals():
        from tailforge.flows.cli.commands import run_command

        try:
            run_command()
        finally:
            end_with_reader()


def open_missing_streams() -> None:
    """What was closed before the program began (`2>&-`) leads nowhere: else the next file opened would take its place.

    Processes that this one starts get the same.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


if __name__ == "__main__":
    main()
