"""Where images that start from a mix came from."""

import json

import pyarrow as pa

from tailforge.tasks.report.noises import count_noises, describe_mix


def seed(prompt: str, **record: object) -> dict[str, str]:
    return {"prompt": prompt, "record": json.dumps(record)}


def images(*rows: tuple[str, str]) -> pa.Table:
    return pa.table({"concept": [row[0] for row in rows], "caption": [row[1] for row in rows]})


def test_noises_count_for_the_concept_whose_images_have_their_prompt() -> None:
    seeds = pa.Table.from_pylist(
        [
            seed("a hook", iterations=2, stop_reason="confident", confidence=1.5),
            seed("a gear", iterations=6, stop_reason="iterations", confidence=0.5),
            seed("one hook", iterations=4, stop_reason="iterations", confidence=0.7),
            seed("a hook nobody drew", iterations=9, stop_reason="rounds", confidence=9.0),
        ]
    )
    accepted, rejected = (
        images(("hook", "a hook"), ("gear", "a gear"), ("hook", "a hook")),
        images(("hook", "one hook")),
    )
    hook, gear = count_noises(seeds, [accepted, rejected])
    assert (hook.concept, hook.noises, hook.steps) == ("hook", 2, 3)
    assert hook.confidence == (1.5 + 0.7) / 2
    assert dict(hook.reasons) == {"reached stop": 1, "out of steps": 1}
    assert (gear.concept, gear.noises) == ("gear", 1)


def test_without_stop_there_is_no_confidence_and_without_noises_no_row() -> None:
    (row,) = count_noises(pa.Table.from_pylist([seed("a hook")]), [images(("hook", "a hook"))])
    assert (row.noises, row.steps, row.confidence, row.reasons) == (1, None, None, ())
    assert count_noises(None, [images(("hook", "a hook"))]) == []


def test_facts_of_a_mix_claim_no_step_that_was_not_taken() -> None:
    settings = {"mode": "bootstrapped", "mixes": 4, "fresh_share": 0.05, "iterations": 6}
    facts = describe_mix(json.dumps(settings | {"candidate": 1}))
    assert facts == {
        "Search steps": None,
        "Mix": "the best of 4 screened, number 2",
        "Mixed of": "95 % a noise of the full search, 5 % the image's own",
    }
    assert describe_mix(json.dumps(settings | {"mode": "full", "candidate": 1})) == describe_mix(None) == {}
