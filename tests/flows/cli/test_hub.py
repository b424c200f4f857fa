"""`tailforge push` and `pull` with the real client, against a server that answers as the Hugging Face Hub does."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlcroissant
import numpy as np
import pytest
from huggingface_hub import constants

from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.catalog.registry import list_datasets
from tailforge.catalog.store import Store
from tests.flows.conftest import Command
from tests.support.fabricate import make_build, make_recipe, publish_build
from tests.support.hostile_versions import edit_record, replace, sign
from tests.support.hub_server import HubServer, Repository
from tests.support.s3_server import S3Server
from tests.support.shown_commands import list_typed
from tests.support.tiny_generators import save_sd
from tests.support.tiny_recipes import write_recipe

NAME, REPOSITORY = "workshop", "datasets/owner/workshop"
pytestmark = pytest.mark.filterwarnings(
    "ignore:Use 'content=:DeprecationWarning",  # the client's own call of its HTTP library
    "ignore::ResourceWarning",  # connections and mlcroissant's files are left to the garbage collector
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
PUSH = ("push", NAME, "owner/workshop")
READ = """
import hashlib, json, datasets
found = datasets.load_dataset("owner/workshop", revision="1.0.0")
print(json.dumps({split: {row["sample_id"]: hashlib.sha256(row["image"].tobytes()).hexdigest() for row in rows}
                  for split, rows in found.items()}))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with workshop 1.0.0: four shards of train and one of test."""
    return make_store(tmp_path_factory.mktemp("workshop") / "store")


def make_store(folder: Path, **changes: Any) -> Store:
    """A store with a version of `workshop`, or of a recipe with these changes."""
    store = Store.open(str(folder), create=True)
    recipe = make_recipe(**{"name": NAME, "sharding": {"max_samples": 12}, **changes})
    publish_build(make_build(store, recipe, {"gear": 30, "hook": 10, "ring": 20}), {"report/index.html": b"<html>"})
    return store


class Hub(HubServer):
    """The server, and commands of this process that find it."""

    def __init__(self, folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.folder, self.command, self.monkeypatch = folder, command, monkeypatch

    def run(self, *words: object, **changes: str) -> tuple[int, str, str]:
        """What a command says; the token is never in it."""
        environment = self.environment(self.folder) | changes
        for name, value in environment.items():
            self.monkeypatch.setenv(name, value)
        # The client has read the other variables when it was imported.
        self.monkeypatch.setattr(constants, "ENDPOINT", environment["HF_ENDPOINT"])
        template = environment["HF_ENDPOINT"] + "/{repo_id}/resolve/{revision}/{filename}"
        self.monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        self.monkeypatch.setattr(constants, "HF_HUB_CACHE", f"{self.folder}/hub")
        self.monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        self.monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        code, out, err = self.command(*words)
        assert self.token not in out + err
        assert environment["HF_TOKEN"] not in out + err or not environment["HF_TOKEN"]
        return code, out, err

    def tell(self, *words: object, **changes: str) -> dict[str, Any]:
        """What a command that succeeds says by --json."""
        code, out, err = self.run(*words, "--json", **changes)
        assert code == 0, err
        return json.loads(out)  # type: ignore[no-any-return]

    def uploads(self) -> list[str]:
        return [path for method, path in self.requests if method == "PUT"]

    @property
    def repository(self) -> Repository:
        return self.repositories[REPOSITORY]


@pytest.fixture
def hub(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub(tmp_path / "cache", command, monkeypatch) as started:
        yield started


@pytest.fixture
def pushed(hub: Hub, store: Store) -> Hub:
    hub.tell(*PUSH, "--store", store.uri)
    return hub


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refuse(ran: tuple[int, str, str], code: int, message: str) -> None:
    """The command ended with one line that says this."""
    found, out, err = ran
    assert found == code, out + err
    assert re.fullmatch(r"error: [^\n]+\n", err), err
    assert re.search(message, err), err


def test_what_is_pulled_is_byte_for_byte_what_was_pushed(hub: Hub, store: Store, tmp_path: Path) -> None:
    made = hub.tell(*PUSH, "--store", store.uri)
    assert (made["new"], made["private"], made["tag"]) == (True, True, "1.0.0")
    assert hub.repository.tags == {"1.0.0": made["commit"]}

    pulled = hub.tell("pull", "owner/workshop", "--store", tmp_path / "other")
    assert pulled["new"]
    assert read_files(Path(store.uri) / "datasets") == read_files(tmp_path / "other" / "datasets")
    record = Path(store.uri) / "datasets/workshop/1.0.0/dataset.json"
    assert pulled["sha256"] == made["sha256"] == hashlib.sha256(record.read_bytes()).hexdigest()

    # A second time nothing is to be done.
    assert not hub.tell("pull", "owner/workshop@1.0.0", "--store", tmp_path / "other")["new"]
    hub.requests.clear()
    assert not hub.tell(*PUSH, "--store", store.uri)["new"]
    assert hub.uploads() == []


def test_a_version_is_pulled_into_an_object_store(pushed: Hub, store: Store, s3: S3Server) -> None:
    place = f"s3://{s3.make_bucket()}/store"
    pulled = pushed.tell("pull", "owner/workshop", "--store", place, **s3.environment)
    assert pulled["samples"] == 53
    there = Store.open(place)
    for path, data in read_files(Path(store.uri) / "datasets").items():
        assert there.read(f"datasets/{path}") == data, path


def test_datasets_reads_the_parquet_of_the_repository(pushed: Hub, store: Store, tmp_path: Path) -> None:
    environment = os.environ | pushed.environment(tmp_path / "datasets")
    ran = subprocess.run([sys.executable, "-c", READ], env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    for split, images in json.loads(ran.stdout).items():
        ours = {
            sample["key"]: hashlib.sha256(np.ascontiguousarray(sample["image"]).tobytes()).hexdigest()
            for sample in open_dataset(store.uri, split=split, name=NAME, rank=0, world_size=1)
        }
        assert images == ours


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph:DeprecationWarning", "ignore:The inplace keyword")
def test_croissants_own_reader_reads_a_public_repository(hub: Hub, store: Store) -> None:
    made = hub.tell(*PUSH, "--store", store.uri, "--public")
    assert not made["private"]
    croissant = mlcroissant.Dataset(f"{hub.endpoint}/{REPOSITORY}/resolve/1.0.0/croissant.json")
    assert not croissant.metadata.ctx.issues.errors
    assert len(list(croissant.records("samples"))) == 53
    splits = [record["splits/name"] for record in croissant.records("splits")]
    assert splits == ["test", "train"]
    document = json.loads(hub.read(REPOSITORY, "croissant.json"))
    assert document["rai:hasSyntheticData"] is True
    assert {each["contentUrl"].partition("/resolve/1.0.0/")[0] for each in document["distribution"][:6]} == {
        f"{hub.endpoint}/{REPOSITORY}"
    }


def test_a_dry_run_prepares_everything_and_sends_nothing(hub: Hub, store: Store) -> None:
    told = hub.tell(*PUSH, "--store", store.uri, "--dry-run", HF_TOKEN="")
    assert hub.requests == []
    made = hub.tell(*PUSH, "--store", store.uri)
    assert [told["files"], told["bytes"]] == [made["files"], made["bytes"]]


def test_a_killed_push_goes_on(hub: Hub, store: Store, tmp_path: Path) -> None:
    reached, free = threading.Event(), threading.Event()

    def stall(method: str, path: str) -> int | None:
        """Let three files through, and hold the others until the process is dead."""
        if method == "PUT" and len(hub.uploads()) > 3:
            reached.set()
            free.wait()
            return 500
        return None

    hub.faults = stall
    environment = os.environ | hub.environment(hub.folder)
    words = [sys.executable, "-m", "tailforge", *PUSH, "--store", store.uri]
    process = subprocess.Popen(words, env=environment)
    assert reached.wait(timeout=120)
    process.send_signal(signal.SIGKILL)
    process.wait()
    hub.faults = lambda method, path: None
    free.set()

    assert hub.repository.tags == {}
    refuse(hub.run("pull", "owner/workshop", "--store", tmp_path / "other"), 2, "does not hold any version")
    sent = {path.removeprefix("/lfs/") for path in hub.uploads()} & hub.blobs.keys()
    assert len(sent) >= 3
    hub.requests.clear()
    assert hub.tell(*PUSH, "--store", store.uri)["new"]
    assert not {path.removeprefix("/lfs/") for path in hub.uploads()} & sent
    assert hub.tell("pull", "owner/workshop", "--store", tmp_path / "other")["new"]


def test_a_later_version_takes_the_place_of_an_earlier_one(hub: Hub, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    hub.tell(*PUSH, "--store", store.uri)
    publish_build(make_build(store, make_recipe(name=NAME), {"gear": 5, "hook": 5, "ring": 5}), {})
    assert hub.tell(*PUSH, "--store", store.uri)["tag"] == "2.0.0"
    assert not any("train-000003" in path for path in hub.repository.commits[hub.repository.main])
    assert hub.tell("pull", "owner/workshop", "--store", tmp_path / "other")["name"] == "workshop@2.0.0"
    assert hub.tell("pull", "owner/workshop@1.0.0", "--store", tmp_path / "other")["name"] == "workshop@1.0.0"
    assert read_files(Path(store.uri) / "datasets") == read_files(tmp_path / "other" / "datasets")


@pytest.mark.parametrize(
    ("words", "environment", "code", "message"),
    [
        (PUSH, {"HF_TOKEN": "hf_wrong"}, 2, r"refuses the token in HF_TOKEN \(401\)"),
        (PUSH, {"HF_TOKEN": ""}, 2, "HF_TOKEN is not set"),
        (PUSH, {"HF_TOKEN": "hf_two\nlines"}, 2, "characters that no token has"),
        (("push", NAME, "workshop"), {}, 2, "give OWNER/NAME"),
        (("push", "nothing", "owner/nothing"), {}, 2, "no dataset 'nothing'"),
        (("pull", "owner/none"), {}, 2, "has no repository owner/none"),
        (("pull", "owner/none"), {"HF_TOKEN": ""}, 2, "has no repository owner/none"),
        (("pull", "owner/none"), {"HF_TOKEN": "hf_wrong"}, 2, "refuses the token"),
        (("pull", "owner/none"), {"HF_ENDPOINT": "http://127.0.0.1:9"}, 1, "transfer .* failed"),
        (("pull", "owner/none@1.0.0@2"), {}, 2, "has no repository"),
        (("pull", "../none"), {}, 2, "give OWNER/NAME"),
    ],
)
def test_each_refusal_is_one_line(
    hub: Hub, store: Store, tmp_path: Path, words: tuple[str, ...], environment: dict[str, str], code: int, message: str
) -> None:
    place = store.uri if words[0] == "push" else tmp_path / "other"
    refuse(hub.run(*words, "--store", place, **environment), code, message)


def test_a_server_that_fails_is_one_line(pushed: Hub, store: Store, tmp_path: Path) -> None:
    pushed.faults = lambda method, path: 500 if path.endswith("/refs") else None
    refuse(pushed.run(*PUSH, "--store", store.uri), 1, r"failed to answer for owner/workshop \(500\); run the same")
    pushed.faults = lambda method, path: 501 if "/resolve/" in path else None
    refuse(pushed.run("pull", "owner/workshop", "--store", tmp_path / "other"), 1, "run the same command again")
    assert list_datasets(Store.open(str(tmp_path / "other"))) == []


def test_what_belongs_to_others_is_left_alone(pushed: Hub, store: Store, tmp_path: Path) -> None:
    changed, other = make_store(tmp_path / "changed", seed=8), make_store(tmp_path / "parts", name="parts")
    before = dict(pushed.repository.commits)
    refuse(pushed.run(*PUSH, "--store", changed.uri), 2, "holds another 1.0.0 already")
    refuse(pushed.run("push", "parts", "owner/workshop", "--store", other.uri), 2, "holds the data set 'workshop'")
    refuse(pushed.run("pull", "owner/workshop", "--store", changed.uri), 2, "has another workshop@1.0.0")
    pushed.repository.private = False
    refuse(pushed.run(*PUSH, "--store", store.uri), 2, "is public; give --public")
    assert pushed.repository.commits == before


@pytest.mark.parametrize("tags", [{}, {"1.0.0": "main"}])
def test_a_repository_that_no_push_made_keeps_its_files(hub: Hub, store: Store, tags: dict[str, str]) -> None:
    repository = hub.repositories[REPOSITORY] = Repository(private=True)
    commit = repository.commit({"mine.csv": hub.put(b"1,2\n")})
    repository.tags = dict.fromkeys(tags, commit)
    refuse(hub.run(*PUSH, "--store", store.uri), 2, "name another repository")
    assert list(repository.commits) == [commit]


def swap(hub: Hub, path: str, data: bytes | None) -> None:
    """Change a file of the tagged commit, or remove it."""
    files = hub.repository.commits[hub.repository.tags["1.0.0"]]
    if data is None:
        del files[path]
    else:
        files[path] = hub.put(data)


def change_tar(hub: Hub, folder: Path) -> str:
    tar = hub.read(REPOSITORY, "shards/train/train-000001.tar")
    swap(hub, "shards/train/train-000001.tar", tar[:-1] + b"\1")
    return "has sha256"


def grow_tar(hub: Hub, folder: Path) -> str:
    swap(hub, "shards/test/test-000000.tar", bytes(10_000_000))
    return "10,000,000 bytes, dataset.json says"


def lack_table(hub: Hub, folder: Path) -> str:
    swap(hub, "version/rejects.parquet", None)
    return "lacks version/rejects.parquet"


def break_record(hub: Hub, folder: Path) -> str:
    swap(hub, "version/dataset.json", b"[" * 9000)
    return "dataset.json of owner/workshop@1.0.0 is damaged"


def leave_folder(hub: Hub, folder: Path) -> str:
    edit_record(folder, lambda record: record["files"].update({"../../../escaped": record["files"]["README.md"]}))
    swap(hub, "version/dataset.json", (folder / "dataset.json").read_bytes())
    return "dataset.json of owner/workshop@1.0.0 is damaged"


def claim_number(hub: Hub, folder: Path) -> str:
    edit_record(folder, lambda record: record.update(version="9.0.0"))
    swap(hub, "version/dataset.json", (folder / "dataset.json").read_bytes())
    return r"tag 1.0.0 of owner/workshop holds version 9.0.0"


def forge_tar(hub: Hub, folder: Path) -> str:
    """All digests of files agree, but a member is not the one of the manifest."""
    path = "shards/train-000000.tar"
    data = bytearray((folder / path).read_bytes())
    data[data.index(b"a photo of a")] ^= 1
    replace(folder / path, bytes(data))
    sign(folder, path)
    swap(hub, "shards/train/train-000000.tar", bytes(data))
    swap(hub, "version/dataset.json", (folder / "dataset.json").read_bytes())
    return r"is damaged, \d findings?: shards/train-000000.tar"


@pytest.mark.parametrize(
    "attack", [change_tar, grow_tar, lack_table, break_record, leave_folder, claim_number, forge_tar]
)
def test_of_a_hostile_repository_nothing_is_published(
    pushed: Hub, store: Store, tmp_path: Path, attack: Callable[[Hub, Path], str]
) -> None:
    shutil.copytree(Path(store.uri) / "datasets/workshop/1.0.0", tmp_path / "version")
    message = attack(pushed, tmp_path / "version")
    refuse(pushed.run("pull", "owner/workshop", "--store", tmp_path / "other"), 2, message)
    assert list_datasets(Store.open(str(tmp_path / "other"))) == []
    assert [path for path in (tmp_path / "other").rglob("*") if path.is_file()] == []
    assert not list(tmp_path.rglob("escaped"))


def test_models_are_pushed_once_and_without_pickles(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    save_sd(folder)
    made = hub.tell("push", folder, "owner/tiny")
    assert made["tag"] == f"sha256-{made['sha256'][:16]}"
    files = hub.repositories["owner/tiny"].commits[made["commit"]]
    assert {path: hub.blobs[digest] for path, digest in files.items() if path[0] != "."} == read_files(folder)
    assert not hub.tell("push", folder, "owner/tiny")["new"]
    hub.repositories["owner/other"] = Repository(private=True)
    hub.repositories["owner/other"].commit({"mine.csv": hub.put(b"1,2\n")})
    refuse(hub.run("push", folder, "owner/other"), 2, "holds 'mine.csv', which no push made")
    (folder / "unet" / "more.bin").write_bytes(b"pickle")
    refuse(hub.run("push", folder, "owner/tiny"), 2, "unet/more.bin, which may run code")


@pytest.mark.slow
@pytest.mark.flow
def test_a_recipe_draws_with_a_pushed_model(hub: Hub, tmp_path: Path) -> None:
    """The images are those of the folder that was pushed."""
    save_sd(tmp_path / "generator")
    made = hub.tell("push", tmp_path / "generator", "owner/tiny")
    drawn = {}
    for place in ({"model": "generator"}, {"model": "owner/tiny", "revision": made["commit"]}):
        recipe = write_recipe(tmp_path, generator=place)
        words = [sys.executable, "-m", "tailforge", "build", str(recipe), "--store", f"{tmp_path}/{len(place)}"]
        environment = os.environ | hub.environment(tmp_path / "models")
        ran = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=500)
        assert ran.returncode == 0, ran.stderr
        samples = open_dataset(f"{tmp_path}/{len(place)}/datasets/tiny", decode=False, rank=0, world_size=1)
        drawn[len(place)] = {sample["image"] for sample in samples}
    assert drawn[1] == drawn[2]
    assert len(drawn[1]) > 1


def test_the_commands_of_the_page_run(hub: Hub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(store.uri, tmp_path / "store")
    save_sd(tmp_path / "models" / "deer")
    shown = [each.words[1:] for each in list_typed() if each.place == "docs/how-to/hub.md"]
    shown = [words for words in shown if words[0] in ("push", "pull", "verify")]
    assert len(shown) >= 5
    for words in shown:
        code, out, err = hub.run(*words)
        assert code == 0, f"{words}: {err}"
        assert out
    assert set(hub.repositories) == {"datasets/OWNER/workshop", "OWNER/deer"}
