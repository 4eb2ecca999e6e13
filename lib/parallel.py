"""Many items on a few processes, which end when the work is interrupted or their parent is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed


def in_parallel(function: Callable, items: list, processes: int) -> Iterator[tuple]:
    """Yield (item, function(item)) as they are done; in this process where `processes` is 1.

    After an error or Ctrl-C the items at work, and the next few that wait for a worker already, are finished; the
    others are not begun. A worker ends when its parent is gone, however it went.

    Parameters
    ----------
    function : callable
        Of one item; it and the items are pickled, and the module of `function` is imported anew in each process.
    items : list
    processes : int
        At most as many as there are items.
    """
    if processes <= 1 or len(items) <= 1:
        for item in items:
            yield item, function(item)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(items)), context, initializer=_end_with_parent)
    try:
        futures = {pool.submit(function, item): item for item in items}
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent lets the items at work be finished

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
