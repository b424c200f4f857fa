"""Train and adapt denoisers of text-to-image generators, with or without a structure game beside the loss."""

VERSION = "generator-training.1"
