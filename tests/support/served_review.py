"""A review that is being served, of a small fabricated version whose captions are hostile."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tailforge.catalog.store import Store
from tailforge.flows.samples.review import open_version
from tailforge.flows.samples.review_server import ReviewServer
from tailforge.tasks.report.template_files import read_template
from tests.support.fabricate import make_build, make_recipe, publish_build

HOSTILE = "</script><img src=x onerror=hacked=1>"
TEMPLATE = read_template("review.html.j2")


def publish(folder: Path) -> Store:
    """A store with parts@1.0.0: 13 of 16 gears and 10 of 12 hooks accepted; of each, one failed."""
    store = Store.open(str(folder), create=True)
    recipe = make_recipe(concepts=("gear", "hook"), splits={"train": 0.5, "test": 0.5})
    publish_build(make_build(store, recipe, {"gear": 16, "hook": 12}, rows=16))
    return store


@contextmanager
def serve(store: Store, reviewer: str = "") -> Iterator[ReviewServer]:
    """The server of parts@1.0.0 in a thread."""
    version = open_version("parts", store.uri)
    rows = {name: {**row, "caption": f"{row['caption']} {HOSTILE}"} for name, row in version.rows.items()}
    with ReviewServer(replace(version, rows=rows), TEMPLATE, reviewer=reviewer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
