"""Where the program `tailforge` begins: it hears signals before it imports the commands, flows/cli.py."""

from flows.stopping import end_with_reader, hear_signals


def main() -> None:
    """Run the command line and end: 0 done, 2 the user's error, 1 a failure, 128 and a signal's number when stopped."""
    with hear_signals():
        from flows.cli import run_command

        try:
            run_command()
        finally:
            end_with_reader()


if __name__ == "__main__":
    main()
