"""Regional primitives (arXiv 2410.04421): a generator's feature as a sum of components, each for a set of regions.

    image x = g(f);  u(S) = the feature that draws the patches S and owes the others nothing;  u({}) = f0
    u(S) = f0 + sum of the components whose field meets S     (any patch of its field switches a component on: OR)

`patches` cuts the image, `subsets` says which sets are asked for and turns their features into components, `demands`
finds u(S), `decompose` puts these together, `fields` measures what a component draws. `trace` goes from a region to its
components and `repair` mends them; `inpaint` is repair's fallback and rival, `baselines` are what tracing is compared
with. Nothing here knows diffusers: a tail g is any differentiable function of a feature that mixes no rows of a batch.

The paper gives the components once u(S) is known, and does not say publicly how u(S) is found: that part, and every
default, is our own choice (docs/explanation/regional_primitives.md).

Letters of shapes: B rows of a batch, K components, n patches analysed, P patches of the grid, C, h, w of the feature,
H, W pixels.
"""
