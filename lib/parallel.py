"""Many items on a few processes, which end when the work is interrupted or their parent is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool


def in_parallel(function: Callable, items: list, processes: int, crashed: Callable | None = None) -> Iterator[tuple]:
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
    crashed : callable, optional
        Of an item whose process died (killed for its memory, or by a library's crash) and died again when it was the
        only item at work: what to yield for it. Default: `RuntimeError`.
    """
    if processes <= 1 or len(items) <= 1:
        for item in items:
            yield item, function(item)
        return
    left = dict.fromkeys(range(len(items)))
    try:
        for number, result in _pooled(function, items, list(left), processes):
            del left[number]
            yield items[number], result
    except BrokenProcessPool:
        pass
    for number in left:  # a process died: which item did it shows when each works alone
        try:
            ((_, result),) = _pooled(function, items, [number], 1)
        except BrokenProcessPool as error:
            if crashed is None:
                raise RuntimeError(f"the process that worked on {items[number]!r} died, twice") from error
            result = crashed(items[number])
        yield items[number], result


def _pooled(function: Callable, items: list, numbers: list[int], processes: int) -> Iterator[tuple[int, object]]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(numbers)), context, initializer=_end_with_parent)
    try:
        futures = {pool.submit(function, items[number]): number for number in numbers}
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
