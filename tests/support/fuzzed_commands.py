"""Command lines spoiled at random. What could be begun for long is given a recipe or a dataset that is not there."""

import random
from collections.abc import Sequence

from typer.main import get_command

from tailforge.flows.cli.commands import app

VALUES = [
    "", " ", "-1", "0", "1", "1.5", "nan", "inf", "-inf", "1e308", "1e400", "9" * 30, "9" * 5000, "x", "x" * 300,
    "x" * 5000,
    "~nouser/x", "~", "..", "../../x", "/dev/zero", "/dev/null", "pipe", "loop", "a\x00b", "\x1b[2J", "\x9b31m",
    "\u202e",
    "[/b]x", "[old]", "a\udcff", "--", "---", "-x", "--help", "--json", "=", "a=b", "seed=1", "seed=[", "seed=!!bool x",
    "concepts.0.requested=10**9", "concepts.²=1", ".=1", "a.b.c.d=1", "name=" + "x" * 5000, "a" + ".a" * 5000 + "=1",
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
# What each command is given when it is not spoiled; none builds, trains or serves (sound.yaml names no generator).
LINES: dict[str, Sequence[str]] = {
    "build": ("sound.yaml", "--set", "seed=2", "--store", "store", "--runner", "threads", "--workers", "1"),
    "plan": ("sound.yaml", "--set", "seed=2", "--store", "store", "--machine-price", "0.1"),
    "status": ("sound.yaml", "--set", "concepts.gear.requested=2", "--store", "store"),
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
    "serve": ("sound.yaml", "--check", "--store", "store", "--cron", "0 3 * * *", "--timezone", "UTC"),
    "train": ("broken.yaml", "--work", "out/work", "--models", "out/models", "--devices", "1"),
    "distill": ("nothing", "--test", "nothing@1.0.0", "--store", "store", "--out", "out/student", "--steps", "1"),
    "pretrain": ("nothing", "--use", "masked", "--store", "store", "--out", "out/encoder", "--batch", "2"),
    "evaluate": ("nothing", "--real", "photos", "--store", "store", "--steps", "1", "--seeds", "1", "--checks", "1"),
    "init": ("photos", "--out", "out/started", "--store", "store", "--references", "1", "--fill", "3"),
    "example": ("--out", "store"),
    "setup": ("--cpu", "1", "--dead-after", "60"),
}  # fmt: skip
LONG = ("build", "rerun", "review", "distill", "pretrain", "evaluate")  # which a dataset that is there would begin
NEVER = ("--delete", "--open", "--repair")  # what would do something that a test has no use for


def options_of(command: str) -> list[str]:
    """Options that the command knows, but for those that would do what no test has a use for."""
    known = get_command(app).commands[command].params  # type: ignore[attr-defined]
    names = [name for each in known for name in each.opts if name.startswith("--")]
    return [name for name in names if name not in NEVER]


def spoil_line(chance: random.Random) -> list[str]:
    """Words of a command line, most with one to three values replaced, some with words left out or added."""
    command = chance.choice(list(LINES))
    words = list(LINES[command])
    for _ in range(chance.choice((1, 1, 2, 3))):
        values = [place for place, word in enumerate(words) if not word.startswith("--")] or [0]
        kind = chance.randrange(10)
        if kind == 0 and words:
            del words[chance.randrange(len(words))]
        elif kind == 1:
            words.insert(chance.randrange(len(words) + 1), chance.choice(VALUES))
        elif kind < 5:
            words += [chance.choice([*options_of(command), "--nonsense"]), chance.choice(VALUES)]
        else:
            place = chance.choice(values)
            words[place : place + 1] = [chance.choice(VALUES)]
    if command == "serve" and "--check" not in words:
        words.append("--check")
    if command in LONG:
        words = ["nothing" if word.startswith("drawn") else word for word in words]
    name = command if chance.random() < 0.97 else chance.choice([command[:-1], "nonsense", command.upper(), *VALUES])
    return [name, *(word for word in words if word not in NEVER)]
