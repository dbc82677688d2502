"""Batches of images on the device of a trial: taken from those that lie there, or read from disk ahead of time.

Threads read, and not the processes of torch's DataLoader: reading and decoding release Python's lock, nothing is
copied between processes, and none is forked from a worker of Ray, which has threads of its own.
`benchmarks/streaming.py` compares both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data.streaming import ImagesOnDisk

BATCHES_AHEAD = 2  # for each thread: one that is read, one that waits


def batches_at(
    images: Tensor | ImagesOnDisk, indices: Iterable[Tensor], device: torch.device, threads: int
) -> Iterator[Tensor]:
    """Yields images [B, H, W, C] uint8 on the device, for each of the indices [B] int64, in their order.

    Those on disk are read by `threads` while the caller works. Raises DatasetError or OSError if they cannot be.
    """
    if isinstance(images, ImagesOnDisk):
        return _read_ahead(images, indices, device, threads)
    return (images.index_select(0, index) for index in indices)


def batches_in_order(
    images: Tensor | ImagesOnDisk, batch_size: int, device: torch.device, threads: int
) -> Iterator[Tensor]:
    """Yields all images in their order, as `batches_at` does; the last batch may be smaller."""
    if isinstance(images, ImagesOnDisk):
        return _read_ahead(images, torch.split(torch.arange(len(images)), batch_size), device, threads)
    return iter(torch.split(images, batch_size))


def _read_ahead(
    images: ImagesOnDisk, indices: Iterable[Tensor], device: torch.device, threads: int
) -> Iterator[Tensor]:
    """Keeps `BATCHES_AHEAD` batches for each thread in reading, and one more on its way to the device.

    On a GPU it travels from pinned memory, on a stream of its own, so that neither host nor step waits for it.
    """
    on_host = iter([index.cpu().numpy() for index in indices])  # at once: later, this would wait for the steps before
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def read(index: NDArray[np.int64]) -> Tensor:
        batch = torch.from_numpy(images[index])
        return batch if stream is None else batch.pin_memory()

    def send(batch: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        with torch.cuda.stream(stream):
            return batch.to(device, non_blocking=True), None if stream is None else stream.record_event()

    with ThreadPoolExecutor(threads) as pool:
        reading = deque(pool.submit(read, index) for index in islice(on_host, BATCHES_AHEAD * threads))
        sent: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
        try:
            while reading or sent:
                while reading and len(sent) < 2:
                    sent.append(send(reading.popleft().result()))
                    reading.extend(pool.submit(read, index) for index in islice(on_host, 1))
                batch, arrived = sent.popleft()
                if arrived is not None:
                    torch.cuda.current_stream(device).wait_event(arrived)
                    batch.record_stream(torch.cuda.current_stream(device))
                yield batch
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
