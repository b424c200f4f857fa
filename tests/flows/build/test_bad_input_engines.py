"""Settings, references and gates that an engine cannot work with are refused, and those that would do nothing."""

from pathlib import Path

import pytest

from tests.flows.conftest import Command
from tests.support.bad_recipes import (
    Change,
    assert_refused,
    invert,
    name_references,
    put,
    references,
    search,
    together,
    write,
)

CASES: dict[str, tuple[Change, str]] = {
    "clip gate without scorer": (
        put("quality", "gates", value={"clip_score": {"min": 0}}),
        "clip_score need quality.scorer",
    ),
    "clip gate of an inversion": (
        invert(put("quality", "gates", value={"clip_score": {"min": 0}})),
        "clip_score: .* engine natural_inversion takes none; leave it out, or use teacher_agreement",
    ),
    "clip gate and scorer of an inversion": (
        invert(put("quality", value={"gates": {"clip_score": {"min": 0}}, "scorer": {"model": "clip"}})),
        "clip_score: .* engine natural_inversion takes none; leave it out, or use teacher_agreement",
    ),
    "references missing": (name_references("photos"), "'photos' is not a folder"),
    "references empty": (references(0), "photos"),
    "references corrupt": (references(3, corrupt=True), "0.png"),
    "references outside": (name_references("../../etc"), "leaves the recipe's folder"),
    "references among other files": (
        together(references(1), write("photos/notes.txt", ""), write("photos/a.heic", ""), write("photos/b.GIF", "")),
        r"'photos' holds a\.heic, b\.GIF, notes\.txt, which cannot be read.*save images as \.bmp.*move everything else",
    ),
    "references of an engine that reads none": (
        together(references(3), put("quality", "near_duplicates", value=None)),
        "'gear' has references, but engine plain reads none and quality.near_duplicates.against_references is off",
    ),
    "references that are not compared with": (
        invert(references(3), put("quality", "near_duplicates", value={"against_references": False})),
        "'gear' has references, but engine natural_inversion reads none",
    ),
    "similarity to no references": (
        together(
            put("quality", "scorer", value={"model": "clip"}),
            put("quality", "gates", value={"reference_similarity": {"max": 0.9}}),
        ),
        "reference_similarity compares with reference photographs, but no concept has any",
    ),
    "finalists of no candidates": (
        search(references(3), candidates=2, finalists=3),
        "engine.finalists 3 is above engine.candidates 2.*give 2 at most, or more candidates",
    ),
    "finalists of the published preset": (
        search(references(3), preset="published", finalists=2),
        "engine.finalists 2 is above engine.candidates 1",
    ),
    "screening with more steps": (
        search(references(3), kind="best_of_n", steps=4, screening_steps=5),
        "engine.screening_steps 5 is above engine.steps 4",
    ),
    "gradient through more steps": (
        search(references(3), steps=4, grad_steps=5),
        "engine.grad_steps 5 is above engine.steps 4; give 4 at most",
    ),
    "subsets above the references": (
        search(references(3), references_per_image=4),
        "engine.references_per_image 4: concept 'gear' has 3 references; give 3 at most",
    ),
    "mixes of a search in full": (
        search(references(3), mixes=3, found_seeds=1, fresh_share=0.1),
        r"3 mistakes:\n  line \d+, column 3: engine.found_seeds has no effect with engine.mode full.*\n"
        r".*mixes.*\n.*fresh_share.*bootstrap",
    ),
    "search without references": (search(), "needs reference photographs of every concept; 'gear' has none"),
    "search with two references": (search(references(2)), "holds 2 photograph.s.; give 3 or more"),
    "search with one picture twice": (search(references(3, twice=True)), r"1\.png and 2\.png are the same picture"),
    "search with a broken reference": (search(references(3, corrupt=True)), r"0\.png cannot be read as an image"),
    "broken references of a broken generator": (  # which may take a minute to be found out
        search(references(3, corrupt=True), write("generator/model_index.json", "{")),
        r"0\.png cannot be read as an image",
    ),
    "search without encoder": (search(references(3), encoder=None), "give engine.encoder or quality.scorer"),
    "search that compares with nothing": (search(references(3), plain_samples=0), "needs 8 plain_samples or more"),
    "search with a stop that compares with nothing": (
        search(references(3), target="centroid", plain_samples=0),
        "stop is a confidence over plain samples",
    ),
    "search with a sampler that adds noise": (
        search(references(3), write("generator/scheduler/scheduler_config.json", '{"_class_name": "DDPMScheduler"}')),
        "DDPMScheduler, which adds noise",
    ),
    "unknown preset": (search(references(3), preset="fast"), "preset"),
    "more weighted steps than steps": (
        search(references(3), steps=2, last_steps=[1, 1, 1]),
        "3 weights for 2 denoising",
    ),
    "noise of an engine that chooses none": (put("sharding", value={"noise": True}), "sharding.noise"),
    "more concepts than a batch has images": (
        invert(
            put("concepts", value=[{"name": name, "requested": 1} for name in ("gear", "bench", "saw")]), batch_size=2
        ),
        "engine.batch_size 2: .*3 concepts; raise engine.batch_size",
    ),
    "inversion with a scorer": (invert(put("quality", "scorer", value={"model": "clip"})), r"quality\.scorer.*no text"),
    "inversion with attributes": (
        invert(put("prompts", "attributes", value={"place": ["bench"]})),
        r"prompts\.attributes: engine natural_inversion",
    ),
    "inversion with partitions": (invert(put("partition_size", value=4)), "set engine.batches_per_run"),
    "inversion with attention": (
        invert(put("annotation", value={"kind": "cross_attention"})),
        "annotation.kind cross_attention",
    ),
    "inversion with noise": (invert(put("sharding", "noise", value=True)), "sharding.noise"),
    "inversion with a preset of nobody": (invert(preset="imagenet"), "preset"),
    "warm start from nothing": (invert(warm_start=True), "raise batches_per_run"),
    "verifier's gate without verifier": (
        put("quality", "gates", value={"verifier_agreement": {"min": 0.5}}),
        "needs quality.verifier",
    ),
    "teacher's gate without teacher": (
        put("quality", "gates", value={"teacher_agreement": {"min": 0.5}}),
        "engine plain has no teacher",
    ),
    "inversion that asks nobody": (
        invert(put("annotation", value={"kind": "renoised_attention"})),
        "name one as annotation.model",
    ),
    "asking a classifier": (
        put("annotation", value={"kind": "renoised_attention", "model": {"model": "catalog:workshop-teacher"}}),
        "annotation.model must be a diffusers pipeline",
    ),
    "activation maps of a pipeline": (put("annotation", value={"kind": "class_activation"}), "has no classifier"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused(case: str, tiny_recipe: Path, command: Command) -> None:
    assert_refused(CASES[case], tiny_recipe, command)
