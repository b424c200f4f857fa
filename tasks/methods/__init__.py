"""The mathematics: one method, one file. Imports schemas only; knows neither Prefect nor files nor network."""

import os

# Read when the libraries are imported, whichever module does so first: their advice and loading bars are not for the
# users of a dataset build.
for _name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
    os.environ.setdefault(_name, "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
