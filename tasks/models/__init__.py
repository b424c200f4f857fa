"""Adapters: diffusers and transformers models as the small protocols that methods speak, loaded once a process."""

import tailforge.tasks.methods  # noqa: F401  it quiets the libraries, which must be told before they are imported
