"""SeedSelect (arXiv 2304.14530): the initial noise from which a frozen generator draws a rare concept.

`aim` says what to look for, `screen` and `optimise` look for it, `engine` makes the images; `rivals` look without
gradients. The published method is a set of settings (schemas/settings/engines.py, PUBLISHED); all else is our own.

Letters of shapes: K images of a batch, M candidates, R references, P plain samples, D features, C, H, W latents.
"""

VERSION = "search.2"  # of all engines that search; a new number makes their images anew
