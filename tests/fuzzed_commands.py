"""Command lines spoiled at random. What could be begun for long is given a recipe or a dataset that is not there."""

import random
from collections.abc import Sequence

VALUES = [
    "", " ", "-1", "0", "1", "1.5", "nan", "inf", "-inf", "1e308", "1e400", "9" * 30, "9" * 5000, "x", "x" * 300,
    "x" * 5000,
    "~nouser/x", "~", "..", "../../x", "/dev/zero", "/dev/null", "pipe", "loop", "a\x00b", "\x1b[2J", "\x9b31m",
    "\u202e",
    "[/b]x", "[old]", "a\udcff", "--", "---", "-x", "--help", "--json", "=", "a=b", "seed=1", "seed=[", "seed=!!bool x",
    "concepts.0.wanted=10**9", "concepts.²=1", ".=1", "a.b.c.d=1", "name=" + "x" * 5000, "a" + ".a" * 5000 + "=1",
    "seed=" + "[" * 5000, "seed=" + "9" * 5000, "concepts=&a [*a]", "drawn", "drawn@1.0.0", "drawn@9.9.9", "drawn@",
    "@",
    "drawn@1.0.0@1", "nothing", "nothing@latest", "http://user:secret@host", "simplecache::http://u:secret@h",
    "https+x://a",
    "reference://", "reference://x", "data:,x", "s3://", "memory://", "memory://x", "zip://x::file:///y", "file:///no",
    "--1,2,3,4", "1,2,3", "1,2,3,4", "9999999999,1,1,1", "٣,1,1,1", "all", "²", "0" * 16, "g" * 16, "coco", "train",
    "test",
    "host:1", "http://u:secret@h:1", "cpu:0", "gpu:99", ",,,", "* * * * *", "@daily", "0 3 * *", "Europe/Nowhere",
    "./x.yaml",
    "broken.yaml", "broken.yaml/x", "é" * 130, "{concept}", "$(touch evil)", "; touch evil", "%s%n", "\n", "a\nb",
]  # fmt: skip
# What each command is given when it is not spoiled; none of them builds, trains or serves.
LINES: dict[str, Sequence[str]] = {
    "build": ("broken.yaml", "--store", "store", "--runner", "threads", "--workers", "1"),
    "plan": ("broken.yaml", "--store", "store", "--machine-price", "0.1"),
    "status": ("broken.yaml", "--store", "store"),
    "rerun": ("broken.yaml", "--store", "store", "--stage", "masks", "--partition", "gear r0 template:0 #0"),
    "list": ("--store", "store"),
    "show": ("drawn", "--store", "store"),
    "verify": ("drawn@1.0.0", "--store", "store"),
    "report": ("drawn", "--store", "store"),
    "diff": ("drawn@1.0.0", "drawn", "--rows", "--store", "store"),
    "export": ("drawn", "--format", "yolo", "--out", "out/made", "--store", "store", "--split", "train"),
    "gc": ("--store", "store", "--days", "7"),
    "regenerate": ("0000000000000001", "--dataset", "nothing", "--store", "store", "--out", "out/x.png"),
    "explain": ("0000000000000001", "--dataset", "nothing", "--box", "1,2,3,4", "--order", "2", "--memory", "1",
                "--store", "store"),
    "review": ("nothing", "--no-open", "--store", "store", "--port", "0"),
    "serve": ("broken.yaml", "--check", "--store", "store", "--cron", "0 3 * * *", "--timezone", "UTC"),
    "train": ("broken.yaml", "--work", "out/work", "--models", "out/models", "--devices", "1"),
    "distill": ("nothing", "--test", "nothing@1.0.0", "--store", "store", "--out", "out/student", "--steps", "1"),
    "pretrain": ("nothing", "--use", "masked", "--store", "store", "--out", "out/encoder", "--batch", "2"),
}  # fmt: skip
OPTIONS = ("--store", "--set", "--out", "--dataset", "--format", "--split", "--runner", "--workers", "--devices",
           "--json", "--ray-address", "--folder", "--stage", "--partition", "--days", "--keep", "--box", "--mask",
           "--gate", "--order",
           "--grid", "--memory", "--target", "--layer", "--step", "--cron", "--timezone", "--work", "--models",
           "--images",
           "--test", "--teacher", "--teacher-module", "--real", "--student", "--use", "--masks", "--probe", "--seed",
           "--learning-rate", "--temperature", "--port", "--reviewer", "--machine-price", "--rows",
           "--nonsense")  # fmt: skip
LONG = ("build", "rerun", "review", "distill", "pretrain")  # which a dataset that is there would begin
LONG = ("build", "rerun", "review", "distill", "pretrain")  # which a dataset that is there would begin
NEVER = ("--delete", "--open", "--repair")  # what would do something that a test has no use for


def spoil_line(chance: random.Random) -> list[str]:
    """Words of a command line with one to three of them replaced, left out or added."""
    command = chance.choice(list(LINES))
    words = list(LINES[command])
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = chance.randrange(len(words) + 1)
        kind = chance.randrange(5)
        if kind == 0 and words:
            del words[min(at, len(words) - 1)]
        elif kind == 1:
            words[at:at] = [chance.choice(OPTIONS), chance.choice(VALUES)]
        elif kind == 2:
            words.insert(at, chance.choice(VALUES))
        else:
            words[min(at, len(words) - 1) : min(at, len(words) - 1) + 1] = [chance.choice(VALUES)]
    if command == "serve" and "--check" not in words:
        words.append("--check")
    if command in LONG:
        words = ["nothing" if word.startswith("drawn") else word for word in words]
    name = (
        command if chance.random() < 0.95 else chance.choice([command[:-1], "nonsense", command.upper(), *VALUES[:20]])
    )
    return [name, *(word for word in words if word not in NEVER)]
