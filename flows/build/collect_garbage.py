"""Remove unused artifacts, explanations and abandoned temporary files from a store, but never a version.

Artifacts stay if a version's lineage, a repair record or a build of a named recipe needs them. Those of the last days
stay as well, because a running build may need them. A removal can cost time, but never a result: the next build makes
missing artifacts again.
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
from tailforge.tasks.stages.on_demand import ON_DEMAND
from tailforge.tasks.stages.registry import list_stages, list_upstream
from tailforge.tasks.stages.repairs import STAGE as REPAIRED

ARTIFACTS = "artifacts"
DAY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Candidate:
    """A folder or file that may be removed. `why`: the reason to keep it, or None. `bytes`: its size."""

    path: str
    stage: str
    bytes: int
    why: str | None


def collect_garbage(uri: str, days: float, recipes: Sequence[str], *, delete: bool) -> dict[str, Any]:
    """Find unused artifacts and files and, with `delete`, remove them. Return the removed and the kept ones.

    `days`: artifacts that were written within them stay. `recipes`: names or paths of recipes whose artifacts stay.
    Errors: NotFoundError for a missing store; VerificationError for a damaged dataset.json, whose needs are unknown;
    StoreError.
    """
    store = Store.open(uri)
    require_there(store)
    since = store.now() - days * DAY_SECONDS
    found = list(_list_candidates(store, since, recipes))
    gone = [each for each in found if each.why is None]
    if delete:  # a build may have written some of them meanwhile, which stay
        gone = [each for each in gone if _remove_old(store, each.path, since)]
    return {
        "deleted": delete,
        "removed": [{"path": each.path, "stage": each.stage, "bytes": each.bytes} for each in gone],
        "bytes": sum(each.bytes for each in gone),
        "kept": dict(Counter(each.why for each in found if each.why is not None)),
    }


def _remove_old(store: Store, path: str, since: float) -> bool:
    """Remove an artifact, its receipts first: no build uses the rest. Return False if it was written since."""
    if store.measure(path)[0] >= since:
        return False
    for name in store.names(path):
        if name.endswith(".json"):
            store.remove(f"{path}/{name}")
    store.remove(path)
    return True


def _list_candidates(store: Store, since: float, recipes: Sequence[str]) -> Iterator[Candidate]:
    """Yield every artifact and temporary file, each with the reason to keep it."""
    needed = _list_needed(store, recipes)
    published = any(list_versions(store, name) for name in list_datasets(store))
    # A version's lineage does not name the stages before its images, so their results stay while a version exists.
    upstream = {stage.name for stage in list_upstream()} if published else set()
    for stage in (each.name for each in (*list_stages(), *ON_DEMAND)):  # other folders stay
        for fingerprint in store.names(f"{ARTIFACTS}/{stage}"):
            path = f"{ARTIFACTS}/{stage}/{fingerprint}"
            why = needed.get((stage, fingerprint))
            if why is None and stage in upstream:
                why = "versions follow from it"
            yield _judge(store, path, stage, why, since)
            if why is not None:
                yield from _list_temporaries(store, path, stage, since)

    for name in store.names(DATASETS):
        yield from _list_temporaries(store, f"{DATASETS}/{name}", "staging", since, _list_claimed(store, name))


def _list_claimed(store: Store, name: str) -> dict[str, str]:
    """Return the folders that claims of unpublished versions name, with the reason to keep them."""
    return {claim.folder: "a version is being made of it" for claim in list_promised(store, name)}


def _list_temporaries(
    store: Store, folder: str, stage: str, since: float, kept: Mapping[str, str] | None = None
) -> Iterator[Candidate]:
    """Yield the unfinished files of a folder, which killed processes left. `kept`: reasons by path."""
    for name in store.names(folder):
        if name.startswith(TEMPORARY):
            path = f"{folder}/{name}"
            yield _judge(store, path, stage, (kept or {}).get(path), since)


def _judge(store: Store, path: str, stage: str, why: str | None, since: float) -> Candidate:
    """Return a candidate, which stays if there is a reason or if it was written since."""
    newest, size = store.measure(path)
    young = "written in the last days" if newest >= since else None
    return Candidate(path, stage, size, why or young)


def _list_needed(store: Store, recipes: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return the reason to keep an artifact, by stage and fingerprint."""
    needed: dict[tuple[str, str], str] = {}

    # Builds of the named recipes, with and without the overrides of their last build, and repairs.
    kept = {choose_build(recipe, store.uri, last=last) for recipe in recipes for last in (False, True)}
    for reference, overrides, _ in kept:
        drive = Drive(store, submit=None)
        walk(drive, prepare_build(reference, store.uri, overrides))
        needed |= {(r.stage, r.fingerprint): "a named recipe's build needs it" for r in drive.tally.receipts}

    for dataset in store.names(REPAIRS):
        for repair in list_repairs(store, dataset):
            needed[REPAIRED.name, repair.samples.fingerprint] = "a repair record names it"
    return needed | _list_published(store)


def _list_published(store: Store) -> dict[tuple[str, str], str]:
    """Return the reason to keep the artifacts of versions and of claims, by stage and fingerprint."""
    needed: dict[tuple[str, str], str] = {}
    for name in store.names(DATASETS):
        for claim in list_promised(store, name):
            addresses = [uri.split("/") for uri in claim.shards.values()]
            needed |= {(stage, fingerprint): "a version is being made of it" for _, stage, fingerprint, _ in addresses}
        for version in list_versions(store, name):
            for stage, fingerprints in load_dataset(store, name, version).lineage["fingerprints"].items():
                needed |= {(stage, fingerprint): "a version is made of it" for fingerprint in fingerprints}
    return needed
