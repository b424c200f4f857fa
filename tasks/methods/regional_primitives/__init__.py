"""Regional primitives (arXiv 2410.04421): a generator's feature as a sum of components, each for a set of regions.

    image x = g(f);  u(S) = the feature that draws the patches S and leaves the others free;  u({}) = f0
    u(S) = f0 + sum of the components with a field that meets S     (any patch of a field switches a component on: OR)

`patches` cuts the image. `subsets` lists the sets S and turns their features into components. `demands` finds u(S),
`decompose` puts these together, and `fields` measures what a component draws. `trace` goes from a region to its
components, and `repair` turns them. `inpaint` is the fallback and rival of a repair; tracing is compared with
`baselines`. Nothing here knows diffusers: a tail g is any differentiable function of a feature that mixes no rows of a
batch.

The paper gives the components once u(S) is known, and does not say publicly how to find u(S). That part, and every
default, is our own choice (docs/explanation/regional_primitives.md).

Letters of shapes: B rows of a batch, K components, n patches analysed, P patches of the grid, C, h, w of the feature,
H, W pixels.
"""
