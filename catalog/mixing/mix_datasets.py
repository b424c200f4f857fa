"""Train from real and synthetic images together: one epoch out of several datasets. It imports no torch."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.mixing.draws import draw_epoch, read_shares
from tailforge.catalog.mixing.image_map import ImageMapDataset
from tailforge.catalog.mixing.numbering import Numbering, join_categories, match_classes, number_dataset
from tailforge.catalog.reading.epochs import EpochDataset, Sharing
from tailforge.catalog.reading.open_dataset_map import MapDataset
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ReadingError

MIX_FORMAT = "tailforge-mix/1"

Mixable = MapDataset | ImageMapDataset


def mix_datasets(
    datasets: Sequence[Mixable],
    *,
    shares: Sequence[float] | None = None,
    balance: Literal["class"] | None = None,
    classes: Sequence[str] | None = None,
    epoch_size: int | None = None,
    seed: int = 0,
    rank: int | None = None,
    world_size: int | None = None,
    batch_size: int | None = None,
) -> "MixedDataset":
    """Return an iterable dataset that mixes real and synthetic images in random order.

    `datasets`: results of `open_dataset_map` and `open_images_map`.

    - `shares`: the share of each dataset in every batch, such as [0.6, 0.4]. A batch has exactly the shares if they
      give whole numbers of samples. None: an epoch holds every sample once.
    - `balance`: "class" draws all classes equally often. With `shares`, each dataset does so by itself, and needs a
      sample of every class; without, the datasets share one pool per class.
    - `classes`: names by class of the mix, by default those of the first dataset. Datasets are matched by name.
    - `epoch_size`: samples per epoch, by default as many as all datasets have. With `shares` or `balance` a sample
      may come several times per epoch, but never again before all of its class and dataset came.
    - `seed`: with `set_epoch` decides the order, on every machine.
    - `rank`, `world_size`, `batch_size`: as `open_dataset`.

    Errors: ReadingError for invalid arguments, for unknown classes, and for a class without a sample where `balance`
    needs one.
    """
    sharing = Sharing(rank, world_size, batch_size)
    _check(datasets, balance, epoch_size, seed)
    exact = None if shares is None else read_shares(shares, len(datasets))
    names = tuple(datasets[0].classes if classes is None else classes)
    numberings, categories = _number(datasets, names)
    groups = _group(datasets, numberings, names, by_dataset=exact is not None, by_class=balance is not None)
    return MixedDataset(
        datasets, numberings, names, categories, groups, exact or (Fraction(1),), epoch_size, seed, sharing
    )


class MixedDataset(EpochDataset):
    """Samples of several datasets in one order. It is iterable many times, sized and picklable as its datasets are.

    Samples are those of the datasets with `source` ("real" or "synthetic"). `cls` and `mask` have the numbers of the
    mix, and `json` stays as published. `classes`: names by class. `categories`: names by value of the masks, from 1.

    A torch DataLoader accepts it as an IterableDataset. Ranks and workers read separate parts of an epoch.
    `state_dict` and `load_state_dict` resume an iteration with the very next sample.
    """

    def __init__(
        self,
        datasets: Sequence[Mixable],
        numberings: Sequence[Numbering],
        classes: tuple[str, ...],
        categories: tuple[str, ...],
        groups: Sequence[Sequence[NDArray[np.int64]]],
        shares: Sequence[Fraction],
        epoch_size: int | None,
        seed: int,
        sharing: Sharing,
    ) -> None:
        self._starts = np.cumsum([0, *map(len, datasets)])
        super().__init__(epoch_size or int(self._starts[-1]), sharing)
        self.classes, self.categories = classes, categories
        self._datasets, self._numberings = tuple(datasets), tuple(numberings)
        self._groups, self._shares, self._seed = groups, shares, seed

    def __repr__(self) -> str:
        return f"<MixedDataset of {len(self._datasets)} datasets, {count_of(len(self), 'sample')}>"

    def _describe(self) -> dict[str, Any]:
        """Return the facts that decide the samples of an epoch and their order."""
        return {
            "format": MIX_FORMAT,
            "datasets": [{"source": each.source, **each.identify()} for each in self._datasets],
            "classes": list(self.classes),
            "shares": [str(share) for share in self._shares],
            "groups": [len(classes) for classes in self._groups],
            "samples": self._samples,
            "seed": self._seed,
        }

    def _read(self, run: range, start: int) -> Iterator[dict[str, Any]]:
        """Yield the samples of a reader's run, from number `start`."""
        order = draw_epoch(self._groups, self._shares, self._samples, self._seed, self._epoch)
        for sample in order[run.start + start : run.stop].tolist():
            yield self._take(sample)

    def _take(self, sample: int) -> dict[str, Any]:
        """Return a sample by its number among all datasets, with the mix's classes and its source."""
        owner = int(np.searchsorted(self._starts, sample, side="right")) - 1
        dataset, numbering = self._datasets[owner], self._numberings[owner]
        found = dataset[sample - int(self._starts[owner])]
        found["cls"] = int(numbering.classes[found["cls"]])
        if found["mask"] is not None and dataset.decode:
            found["mask"] = numbering.renumber_mask(found["mask"])
        found["source"] = dataset.source
        return found


def _check(datasets: Sequence[Mixable], balance: str | None, epoch_size: int | None, seed: int) -> None:
    """Check arguments of `mix_datasets`. Errors: ReadingError."""
    if not datasets or not all(isinstance(each, MapDataset | ImageMapDataset) and len(each) for each in datasets):
        raise ReadingError(
            f"datasets={list(datasets)!r:.200}; give results of open_dataset_map and open_images_map with samples"
        )
    if balance not in (None, "class"):
        raise ReadingError(f"balance={balance!r}; give 'class', or leave it out")
    if (epoch_size is not None and epoch_size < 1) or seed < 0:
        raise ReadingError(
            f"epoch_size is {epoch_size} and seed {seed}; give a size of 1 or more and a seed of 0 or more"
        )


def _number(datasets: Sequence[Mixable], names: tuple[str, ...]) -> tuple[list[Numbering], tuple[str, ...]]:
    """Return the numbering of each dataset and the categories of the mix.

    Errors: ReadingError for unknown classes, and for masks as bytes that need other numbers.
    """
    numbers = [match_classes(repr(each), each.classes, names) for each in datasets]
    categories = join_categories(names, (name for each in datasets for name in each.categories))
    numberings = []
    for dataset, classes in zip(datasets, numbers, strict=True):
        numbering = number_dataset(classes, dataset.categories, categories)
        used = np.arange(len(dataset.categories) + 1)
        if not dataset.decode and not np.array_equal(numbering.values[used], used):
            raise ReadingError(f"{dataset!r} has other class numbers than the mix; open it with decode=True")
        numberings.append(numbering)
    return numberings, categories


def _group(
    datasets: Sequence[Mixable],
    numberings: Sequence[Numbering],
    names: tuple[str, ...],
    *,
    by_dataset: bool,
    by_class: bool,
) -> list[list[NDArray[np.int64]]]:
    """Return sample numbers per dataset (one for all without `by_dataset`) and class (one for all without `by_class`).

    Errors: ReadingError naming the classes without a sample.
    """
    # Samples are numbered through all datasets.
    counts = [len(each) for each in datasets]
    owners = np.repeat(np.arange(len(datasets)), counts if by_dataset else [sum(counts), *[0] * (len(counts) - 1)])
    if not by_class:
        return [[np.flatnonzero(owners == owner)] for owner in np.unique(owners)]
    labels = np.concatenate([n.classes[each.read_labels()] for each, n in zip(datasets, numberings, strict=True)])

    found = []
    for owner in np.unique(owners).tolist():
        groups = [np.flatnonzero((owners == owner) & (labels == number)) for number in range(len(names))]
        if missing := [name for name, group in zip(names, groups, strict=True) if not len(group)]:
            origin = repr(datasets[owner]) if by_dataset else "the mix"
            raise ReadingError(
                f"balance='class', and {origin} has no sample of {', '.join(missing)}; "
                + ("leave out shares, so that all datasets share their classes" if by_dataset else "add some")
            )
        found.append(groups)
    return found
