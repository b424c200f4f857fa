"""Draw into regions of photographs: choose regions, blend latents, keep every other pixel, and find what changed.

`shapes` and `regions` choose where, `blend` denoises, `windows` takes a photograph's part and puts the drawing back,
`change` makes the labels, and `render` does all of it for a batch.
"""
