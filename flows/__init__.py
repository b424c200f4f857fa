"""The order: Prefect flows, runners and the command line. May import every other room."""
