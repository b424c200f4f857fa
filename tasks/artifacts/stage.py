"""Define a stage of a build in one object: name, table, address of its results, work, and properties."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from tailforge.catalog.store import Store
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.contract import Address, ArtifactKind, Made, run_once
from tailforge.tasks.artifacts.failures import end_retry


@dataclass(frozen=True)
class Workplace:
    """The store of a build and the address of the result to make."""

    store: Store
    address: Address


@dataclass(frozen=True, kw_only=True)
class Stage(ArtifactKind):
    """One stage of a build. Its name is also that of its module, its folder in the store and its `--stage` option.

    `locate(*given)` returns the address of the result, and `produce(workplace, *given)` makes it. The types of `given`
    are the annotations of `locate`. `hold(workplace)` holds what two builds must not use at once, until the receipt is
    written. Whoever plans a build locates its results only, so `produce` may import its libraries when it is called.
    """

    locate: Callable[..., Address]
    produce: Callable[..., Made]
    hold: Callable[[Workplace], AbstractContextManager[None]] = lambda workplace: nullcontext()
    uses_generator: bool = False  # it runs the generator: one batch at a time per process
    makes_images: bool = False  # a row is an image, and a failed row a failed image
    keeps_rows: bool = False  # its failed rows can be made again without the others

    def make(self, store: Store, *given: Any) -> Receipt:
        """Return the receipt of a result. Make the result first unless it is finished.

        Errors: StoreError; those of `produce`.
        """
        workplace = Workplace(store, self.locate(*given))
        with self.hold(workplace):
            receipt = run_once(store, workplace.address, lambda: self.produce(workplace, *given))
        if self.keeps_rows:
            end_retry(store, workplace.address)
        return receipt

    @cached_property
    def types(self) -> tuple[Any, ...]:
        """Return the types of the arguments `given`."""
        return tuple(kind for name, kind in get_type_hints(self.locate).items() if name != "return")

    @cached_property
    def _given(self) -> TypeAdapter[tuple[Any, ...]]:
        """Return the adapter between `given` and JSON."""
        return TypeAdapter(tuple[self.types])  # type: ignore[name-defined]

    def write_given(self, given: Sequence[Any]) -> str:
        """Return the arguments `given` as JSON, for a task in another process."""
        return self._given.dump_json(tuple(given)).decode()

    def read_given(self, text: str) -> tuple[Any, ...]:
        """Return the arguments in the JSON of `write_given`. Errors: ValueError."""
        return self._given.validate_json(text)
