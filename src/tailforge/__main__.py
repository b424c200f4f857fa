"""`python -m tailforge` is the command `tailforge`."""

from tailforge.flows.cli.main import main

if __name__ == "__main__":
    main()
