"""The numerical methods, one package per method. Their functions map arrays or tables to arrays or tables.

Methods import `schemas` and the decoder of pictures. They use neither Prefect nor the store nor the network.
"""

import os

# The libraries read these variables when a module first imports them. Users of a dataset build need neither the
# advice nor the loading bars of these libraries.
for _name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
    os.environ.setdefault(_name, "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
