"""Recipes of every engine and training kind, spoiled at random: a seed gives the same ones again."""

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tailforge.catalog.sources.recipes import RECIPES
from tests.support.tiny_recipes import TINY
from tests.support.tiny_training import tiny_recipe

SEARCH = {"batch_size": 4, "encoder": {"model": "clip"}, "steps": 2}
REFERENCES = [
    {"name": "gear", "requested": 2, "references": "photos"},
    {"name": "bench", "requested": 2, "references": "b"},
]
TEACHER = {"model": "teacher", "module": "tests.support.tiny_teachers:CifarResNet", "mean": [0.5], "std": [0.5]}
INVERSION = {"generator": TEACHER,
             "prompts": {"templates": ["a {concept}"]}}  # fmt: skip
RICH = {
    "generator": {"model": "generator", "loras": [{"model": "rust.safetensors", "weight": 0.5, "sha256": "0" * 64}],
                  "control": {"model": "control", "kind": "edges", "images": "photos", "scale": 0.5, "fit": "pad"}},
    "license": {"name": "Ours", "url": "https://example.org/licence"},
    "augmentation": {"transforms": [{"name": "HorizontalFlip", "parameters": {"p": 0.5}}], "copies": 1},
    "annotation": {"kind": "renoised_attention", "things": ["concept"], "stuff": ["place"], "noise": 0.3},
    "quality": {"gates": {"clip_score": {"min": 0.1}, "mask_area": {"min_quantile": 0.1, "max_quantile": 0.9}},
                "scorer": {"model": "clip", "revision": "0" * 40}, "verifier": {"model": "teacher", "size": [16, 16]},
                "near_duplicates": {"max_distance": 2}},
    "prompts": {"templates": ["a {concept} on a {place}"], "attributes": {"place": {"shelf": 2.0, "wall": 1.0}},
                "balance": "weighted", "lexicon": {"gear": ["cog"]}, "wordnet": True,
                "language_model": {"source": {"model": "llm"}, "count": 3}},
}  # fmt: skip


def _recipe(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (copy.deepcopy(TINY) | changes).items() if value is not None}


def engine_recipes() -> dict[str, dict[str, Any]]:
    """A recipe that is valid for every engine, by a name."""
    searching = {"concepts": REFERENCES, "partition_size": None}
    inverting = INVERSION | {"partition_size": None, "quality": {}}
    return {
        "plain": _recipe(),
        "rich": _recipe(**RICH),
        "best_of_n": _recipe(engine={"kind": "best_of_n", **SEARCH}, **searching),
        "zero_order": _recipe(engine={"kind": "zero_order", **SEARCH}, **searching),
        "seed_select": _recipe(engine={"kind": "seed_select", **SEARCH, "last_steps": [0.5, 1.0]}, **searching),
        "published": _recipe(
            engine={"kind": "seed_select", "preset": "published", "encoder": {"model": "c"}}, **searching
        ),
        "bootstrapped": _recipe(engine={"kind": "seed_select", "mode": "bootstrapped", **SEARCH}, **searching),
        "pyramid": _recipe(engine={"kind": "natural_inversion", "preset": "cifar10"}, **inverting),
        "pixels": _recipe(engine={"kind": "natural_inversion", "form": "pixels", "batch_size": 8}, **inverting),
    }


def training_recipes() -> dict[str, dict[str, Any]]:
    """A training recipe that is valid for every kind, by a name."""
    shipped = {name: yaml.safe_load((RECIPES / f"{name}.yaml").read_text()) for name in
               ("teacher-workshop", "teacher-mnist", "adapt-workshop")}  # fmt: skip
    adapted = {
        "kind": "generator",
        "name": "made",
        "base": {"model": "catalog:workshop"},
        "images": {"dataset": "parts@1.0.0", "store": "store", "where": [["clip_score", ">", 0.3]], "images": 10},
        "learning": {"steps": 10, "batch": 16, "schedule": "cosine"},
        "structure": {"arm": "sadm", "group": 4, "weight": 0.1},
        "validation": {"every": 5, "prompts": ["a gear"]},
        "weights": "lora",
        "lora": {"rank": 2, "targets": ["to_k"]},
    }
    return {"embedded": tiny_recipe(), "generator": adapted, **shipped}


HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**12, 10**30, -(10**30), 0.0, -0.0, 1e308, -1e308, 5e-324,
    float("nan"),
    float("inf"), "", " ", "x", "x" * 300, "x" * 100_000, "~nouser/x", "../../x", "/etc/passwd", "/dev/zero", "a\x00b",
    "\x1b[2J", "\u202e", "[/b]", "{concept}", "{{", "}", "{a.b}", "${HOME}", "subprocess:check_call", "os.system",
    "1e400",
    "0x", "null", "http://user:secret@host/x", "s3://bucket", "catalog:workshop", "catalog:../x", "a/b@c", "Gear",
    "gear ",
    [], [[]], {}, [None], {"": 1}, {1: 2}, {None: None}, ["x"] * 1000, {"a": {"b": {"c": {}}}}, b"bytes", {"kind": []},
    {"kind": "plain", "x" * 200: 1}, list(range(300)), {f"k{i}": i for i in range(300)}, "\ud800",
]  # fmt: skip
SNIPPETS = [
    "a: &a [*a]\n", "<<: *nowhere\n", "<<: {seed: 2}\n", "seed: 1\n", "? [1]\n: 2\n", "x: !!int \"\"\n",
    "x: !!bool x\n",
    "x: !!float 0x\n", "x: !!python/object:os.system {}\n", "x: 2020-02-31\n", "x: 1:61:61\n", "---\n", "...\n",
    "%YAML 9\n",
    "\t", "x: " + "[" * 500 + "\n", "x: " + "9" * 5000 + "\n", "x: 0x" + "f" * 5000 + "\n", "x: " + "1_" * 3000 + "\n",
    "l0: &l0 [1]\n" + "".join(f"l{i}: &l{i} [{','.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 12)), "\x00", "\x07",
    "\ufeff", "x: !!binary ===\n", "x: !!timestamp y\n", "x: !!set {a}\n", "x: !!omap [a]\n", "x: *\n", "&\n",
    "x: |99\n",
    "x: .nan\n", "x: -.inf\n", "'", '"', "{", "}", "]", ": ", "- ", "#", "@", "`", "\u2028", "é", "🔧",
]  # fmt: skip


def spoil(recipe: dict[str, Any], chance: random.Random) -> str:
    """The text of a recipe with one to three mistakes, in its values, its keys or its YAML."""
    data = copy.deepcopy(recipe)
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        _spoil_value(data, chance)
    text = _dump(data)
    for _ in range(chance.choice((0, 0, 1, 2))):
        text = _spoil_text(text, chance)
    return text


def _dump(data: Any) -> str:
    try:
        return yaml.safe_dump(data, allow_unicode=True, sort_keys=False, width=10**6)
    except UnicodeError:
        return yaml.safe_dump(data, sort_keys=False)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything inside."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key
        yield from _places(inner)


def _spoil_value(data: dict[str, Any], chance: random.Random) -> None:
    places = list(_places(data))
    if not places:
        return
    holder, key = chance.choice(places)
    hostile = copy.deepcopy(chance.choice(HOSTILE))
    kind = chance.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[chance.choice([str(key) + "x", "x" * 500, "", "kind", "name", key.upper() if key else "k"])] = hostile
    elif kind == 2:
        holder[key] = [holder[key]] * chance.choice((0, 1, 2, 300))
    elif kind == 3:
        other, other_key = chance.choice(places)
        if other_key in (other if isinstance(other, dict) else range(len(other))):
            holder[key] = copy.deepcopy(other[other_key])
    else:
        holder[key] = hostile


def _spoil_text(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text) + 1)
    lines: Callable[[], int] = lambda: text.rfind("\n", 0, at) + 1  # noqa: E731
    kind = chance.randrange(6)
    if kind == 0:
        return text[:at]
    if kind == 1:
        return text[:at] + chance.choice(SNIPPETS) + text[at:]
    if kind == 2:
        return text[: lines()] + chance.choice(SNIPPETS) + text[lines() :]
    if kind == 3:
        return text[:at] + chr(chance.choice((chance.randrange(32, 127), chance.randrange(0x110000)))) + text[at + 1 :]
    if kind == 4:
        return text + text
    return text.replace(
        chance.choice(("1", "2", "0", "-", ":", "a")), chance.choice(("9" * 30, "e", "\n", "::", "*")), 3
    )


def write_text(path: Path, text: str) -> None:
    """Write it, halves of pairs included."""
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
