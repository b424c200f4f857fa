"""Pre-training of an image encoder on generated images with free masks: three uses, after Free-ATM (arXiv 2308.06739).

The paper names the three families, contrastive, masked and vision-language; how masks enter each loss here is our own
choice, and each file says what it builds on. `regions` turns masks into regions, `views` augments images and regions
together, `contrastive`, `masked` and `caption` train, `probes` measures what an encoder knows.

Letters of shapes: N images of the data, B of a batch, R regions of an image, H, W pixels, P patches, D features.
"""
