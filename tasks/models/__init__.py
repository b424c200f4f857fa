"""Adapt models of diffusers and transformers to the protocols that methods use, and load each once per process."""

import tailforge.tasks.methods  # noqa: F401  it sets variables that the libraries read when they are imported
