"""Adapters: diffusers and transformers models as the small protocols that methods speak, loaded once a process."""

import os

# Read when the libraries are imported: their advice and loading bars are not for the users of a dataset build.
for _name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
    os.environ.setdefault(_name, "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
