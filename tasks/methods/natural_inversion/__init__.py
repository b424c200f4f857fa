"""NaturalInversion (arXiv 2306.16661): labelled images from a trained classifier with BatchNorm, no photograph needed.

`taps` looks into the teacher, `generator` and `pyramid` draw, `losses` judges, `invert` trains one generator a batch,
`baselines` are what it is compared with. The published method is a set of settings (PRESETS in
schemas/settings/inversion.py).

Letters of shapes: B images of a batch, K batches side by side, C channels, H, W pixels. K comes second, so that images
[B, K, C, H, W] are [B * K, C, H, W] for the teacher and [B, K * C, H, W] for grouped convolutions without a copy.
"""

VERSION = "natural_inversion.2"
