"""Which way do SeedSelect's steps lead? The surrogate gradient beside the true one and a random direction.

`python -m tests.benchmarks.seedselect.directions` prints, per guidance, the cosine of the surrogate with the true
gradient, and the semantic loss of plain noises before and after five steps. docs/explanation/seed_select.md quotes it.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tailforge.schemas.settings.engines import SeedSelectEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.generator import join_conditionings
from tailforge.tasks.methods.sampling.plain import Text, prepare_texts
from tailforge.tasks.methods.seed_select.engine import open_search
from tailforge.tasks.methods.seed_select.optimise import look, step_on_shell
from tailforge.tasks.methods.seed_select.search import Batch, aim_each
from tests.benchmarks.seedselect.parts import Bench, make_goal, open_bench, request

PARTS = ("hook", "cross fitting", "wing nut")
GUIDANCES, IMAGES, STEPS = (3.0, 7.5), 4, 5

Losses = Callable[[Tensor], tuple[Tensor, Tensor]]  # of noises [K, C, H, W]: semantic losses [K], and their gradient


def open_losses(bench: Bench, part: str, guidance: float, true: bool) -> Losses:
    """The semantic losses of a part's images. `true`: with the gradient of guidance's unconditional branch."""
    engine = SeedSelectEngine(
        steps=16, guidance=guidance, batch_size=IMAGES, checkpointing=False, stop=None, plain_samples=16,
        unconditional_gradient=true,
    )  # fmt: skip
    search = open_search(bench.model, engine, make_goal(bench, part, 0, engine), None, Clock())
    samples, texts = request(part, "directions", IMAGES), dict[str, Text]()
    prepare_texts(search.sampling, samples, texts)
    text = join_conditionings([texts[sample.prompt].conditioning for sample in samples])
    batch = Batch(samples, text, aim_each(search, samples))

    def losses(noise: Tensor) -> tuple[Tensor, Tensor]:
        leaf = noise.clone().requires_grad_()
        looked = look(search, batch, engine, leaf)
        return looked.semantic, torch.autograd.grad(looked.losses.sum(), leaf)[0]

    return losses


def walk(losses: Losses, noise: Tensor, random: torch.Generator | None) -> Tensor:
    """Semantic losses [1 + STEPS, K] along the gradient, or with `random` along random directions."""
    found = []
    for _ in range(STEPS + 1):
        semantic, gradient = losses(noise)
        found.append(semantic)
        slopes = gradient if random is None else torch.randn(noise.shape, generator=random)
        noise = torch.stack([step_on_shell(*each, 0.05) for each in zip(noise, slopes, strict=True)])
    return torch.stack(found)


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    bench = open_bench()
    for guidance in GUIDANCES:
        cosines, walks = [], dict[str, list[Tensor]]()
        for number, part in enumerate(PARTS):
            noise = torch.randn(
                IMAGES, *bench.model.latent_shape(64, 64), generator=torch.Generator().manual_seed(number)
            )
            surrogate, true = (open_losses(bench, part, guidance, branch) for branch in (False, True))
            cosines.append(cosine_similarity(surrogate(noise)[1].flatten(1), true(noise)[1].flatten(1)))
            random = torch.Generator().manual_seed(7)
            for name, losses, draws in (
                ("surrogate", surrogate, None),
                ("true", true, None),
                ("random", surrogate, random),
            ):
                walks.setdefault(name, []).append(walk(losses, noise, draws))
        cosine = torch.cat(cosines)
        print(f"guidance {guidance}: cosine {cosine.mean():.2f} ({cosine.min():.2f} to {cosine.max():.2f})", flush=True)
        for name, each in walks.items():
            rows = torch.cat(each, dim=1)
            print(f"  {name}: start {rows[0].mean():.3f}, best look {rows.amin(0).mean():.3f}", flush=True)


if __name__ == "__main__":
    main()
