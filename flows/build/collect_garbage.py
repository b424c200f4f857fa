"""What of a store nothing needs any more: artifacts, explanations and abandoned temporary files; never a version.

Kept is what a published version was made of (its lineage), what a repair record names, whatever was written in the last
days, since a build that runs or can be continued may need it, and what a build of a named recipe would find finished.
Removing costs time and never a result: the next build makes what it lacks again.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailforge.catalog.metadata.repairs import FOLDER as REPAIRS
from tailforge.catalog.metadata.repairs import list_repairs
from tailforge.catalog.registry import DATASETS, list_datasets, list_versions, load_dataset, require_there
from tailforge.catalog.store import Store
from tailforge.catalog.temporaries import TEMPORARY
from tailforge.flows.build.choose import choose_build
from tailforge.flows.build.drive import Drive
from tailforge.flows.build.prepare import prepare_build
from tailforge.flows.build.walk import walk
from tailforge.tasks.publish.claim import list_promised
from tailforge.tasks.stages.registry import ON_DEMAND, list_stages, list_upstream
from tailforge.tasks.stages.repairs import STAGE as REPAIRED

ARTIFACTS = "artifacts"
DAY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Found:
    """A folder or file of the store; `why` it is kept, None where it may go. `bytes` are those that it would free."""

    path: str
    stage: str
    bytes: int
    why: str | None


def collect_garbage(uri: str, days: float, recipes: Sequence[str], *, delete: bool) -> dict[str, Any]:
    """Find what nothing needs and, with `delete`, remove it.

    Errors: VerificationError for a version whose dataset.json is damaged, since what it needs is not known then.
    """
    store = Store.open(uri)
    require_there(store)
    since = store.now() - days * DAY_SECONDS
    found = list(_judge_all(store, since, recipes))
    gone = [each for each in found if each.why is None]
    if delete:  # asked again just before: a build may have made it anew meanwhile
        gone = [each for each in gone if _remove_old(store, each.path, since)]
    return {
        "deleted": delete,
        "removed": [{"path": each.path, "stage": each.stage, "bytes": each.bytes} for each in gone],
        "bytes": sum(each.bytes for each in gone),
        "kept": dict(Counter(each.why for each in found if each.why is not None)),
    }


def _remove_old(store: Store, path: str, since: float) -> bool:
    """Receipts first: without them what is left of an artifact is nothing to a build. False if it is young by now."""
    if store.measure(path)[0] >= since:
        return False
    for name in store.names(path):
        if name.endswith(".json"):
            store.remove(f"{path}/{name}")
    store.remove(path)
    return True


def _judge_all(store: Store, since: float, recipes: Sequence[str]) -> Iterator[Found]:
    needed = _needed(store, recipes)
    published = any(list_versions(store, name) for name in list_datasets(store))
    # A version's lineage does not name the stages before its images: their results stay while there is a version.
    upstream = {stage.name for stage in list_upstream()} if published else set()
    for stage in (each.name for each in (*list_stages(), *ON_DEMAND)):  # other folders are not ours to judge
        for fingerprint in store.names(f"{ARTIFACTS}/{stage}"):
            path = f"{ARTIFACTS}/{stage}/{fingerprint}"
            why = needed.get((stage, fingerprint))
            if why is None and stage in upstream:
                why = "versions follow from it"
            yield _judge(store, path, stage, why, since)
            if why is not None:
                yield from _abandoned(store, path, stage, since)
    for name in store.names(DATASETS):
        yield from _abandoned(store, f"{DATASETS}/{name}", "staging", since, _promised(store, name))


def _promised(store: Store, name: str) -> dict[str, str]:
    """Folders that a publisher in an object store has promised to readers and not published yet, and why they stay."""
    return {claim.folder: "a version is being made of it" for claim in list_promised(store, name)}


def _abandoned(
    store: Store, folder: str, stage: str, since: float, kept: Mapping[str, str] | None = None
) -> Iterator[Found]:
    """What killed processes were writing in a folder."""
    for name in store.names(folder):
        if name.startswith(TEMPORARY):
            path = f"{folder}/{name}"
            yield _judge(store, path, stage, (kept or {}).get(path), since)


def _judge(store: Store, path: str, stage: str, why: str | None, since: float) -> Found:
    newest, size = store.measure(path)
    young = "written in the last days" if newest >= since else None
    return Found(path, stage, size, why or young)


def _needed(store: Store, recipes: Sequence[str]) -> dict[tuple[str, str], str]:
    """Why an artifact stays, by stage and fingerprint."""
    needed: dict[tuple[str, str], str] = {}
    kept = {choose_build(recipe, store.uri, last=last) for recipe in recipes for last in (False, True)}
    for reference, overrides, _ in kept:
        drive = Drive(store, submit=None)
        walk(drive, prepare_build(reference, store.uri, overrides))
        needed |= {(r.stage, r.fingerprint): "a named recipe's build needs it" for r in drive.tally.receipts}
    for dataset in store.names(REPAIRS):
        for repair in list_repairs(store, dataset):
            needed[REPAIRED.name, repair.samples.fingerprint] = "a repair record names it"
    for name in store.names(DATASETS):
        for claim in list_promised(store, name):
            addresses = [uri.split("/") for uri in claim.shards.values()]
            needed |= {(stage, fingerprint): "a version is being made of it" for _, stage, fingerprint, _ in addresses}
        for version in list_versions(store, name):
            for stage, fingerprints in load_dataset(store, name, version).lineage["fingerprints"].items():
                needed |= {(stage, fingerprint): "a version is made of it" for fingerprint in fingerprints}
    return needed
