"""Measures the images a second that reach a trial from disk, against torchvision's ImageFolder in a DataLoader.

    python benchmarks/streaming.py --folder DIR [--images 100000] [--images-a-round 4000] [--rounds 5] [--json FILE]

JPEG files of 256×256 pixels are made in `--folder` if they are not there. All contestants resize them to `--size`,
read the same images in a shuffled order, in batches of 128, with as many workers or threads, and give normalised
float32 on the CPU:

- `image_folder`: torchvision's ImageFolder in a DataLoader, which decodes them in every epoch;
- `first_epoch`: ours, decoded into a new file, and then read from it;
- `later_epoch`: ours, from the file of decoded images;
- `no_cache`: ours, where the disk has no room for that file;
- `loader_on_file`: the file of decoded images, read by the processes of a DataLoader instead of threads;
- `ray_data`: Ray Data, which decodes them in every epoch, in the order of its blocks.

The time of a processor is that of this process and its children; that of Ray's workers is not known.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from measurement import alternate, median_of_ratios, write_result
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from trainables.batches import batches_at
from trainables.data.image_folder import FolderImages
from trainables.data.streaming import ImagesOnDisk, StoredImages
from trainables.training import normalize, to_float

BATCH_SIZE, CLASSES, SIDE = 128, 10, 256
WORKERS = os.cpu_count() or 1
CPU = torch.device("cpu")


def make_images(folder: Path, count: int) -> list[str]:
    """Writes JPEG files of smooth random pictures, about as large as photographs; returns their names."""
    names = [f"class-{number % CLASSES}/{number:06d}.jpg" for number in range(count)]
    for label in range(CLASSES):
        (folder / f"class-{label}").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(WORKERS) as pool:
        for _ in pool.map(partial(_make_image, folder), names, chunksize=500):
            pass
    return names


def _make_image(folder: Path, name: str) -> None:
    if (folder / name).exists():
        return
    generator = np.random.default_rng(int(Path(name).stem))
    picture = Image.fromarray(generator.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / name, quality=85)


class DecodedFile(Dataset[Tensor]):
    """Images of the file of decoded images, for a DataLoader; it gives whole batches."""

    def __init__(self, images: ImagesOnDisk) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, positions: list[int]) -> Tensor:
        return torch.from_numpy(self.images[np.array(positions)])


def consume(batches: Iterable[Tensor], to_inputs: Callable[[Tensor], Tensor], expected: int) -> None:
    """Takes all batches as a step would."""
    seen = 0
    for batch in batches:
        seen += len(to_inputs(batch))
    assert seen == expected, (seen, expected)


def processor_seconds() -> float:
    """The time of the processor that this process and its ended children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


class Contest:
    """The contestants, all on the same images of a round."""

    def __init__(self, folder: Path, names: list[str], size: int, per_round: int, with_ray: bool) -> None:
        self.folder, self.names, self.size, self.per_round = folder, names, size, per_round
        self.cpu_seconds: dict[str, list[float]] = {}
        self.caches = Path(tempfile.mkdtemp(prefix="streaming-", dir=folder.parent))
        self.generator = torch.Generator().manual_seed(0)
        kept = self._stored(self.caches / "kept")
        kept.prepare()
        self.kept = ImagesOnDisk((kept,), np.arange(per_round))
        self.contestants: dict[str, Callable[[], None]] = {
            "image_folder": self._image_folder,
            "first_epoch": self._first_epoch,
            "later_epoch": lambda: self._ours(self.kept),
            "no_cache": lambda: self._ours(ImagesOnDisk((self._stored(self.caches / "none"),), np.arange(per_round))),
            "loader_on_file": self._loader_on_file,
        }
        if with_ray:
            self.contestants["ray_data"] = self._ray_data

    def _stored(self, cache: Path) -> StoredImages:
        return StoredImages(FolderImages.of(self.folder, self.names[: self.per_round], self.size), cache)

    def timed(self, name: str) -> float:
        """Runs one; returns its images a second."""
        cpu, started = processor_seconds(), time.perf_counter()
        self.contestants[name]()
        seconds = time.perf_counter() - started
        self.cpu_seconds.setdefault(name, []).append(processor_seconds() - cpu)
        return self.per_round / seconds

    def _order(self) -> tuple[Tensor, ...]:
        return torch.split(torch.randperm(self.per_round, generator=self.generator), BATCH_SIZE)

    def _ours(self, images: ImagesOnDisk) -> None:
        batches = batches_at(images, self._order(), CPU, WORKERS)
        consume(batches, lambda batch: normalize(to_float(batch)), self.per_round)

    def _first_epoch(self) -> None:
        cache = self.caches / "fresh"
        shutil.rmtree(cache, ignore_errors=True)
        stored = self._stored(cache)
        stored.prepare()
        self._ours(ImagesOnDisk((stored,), np.arange(self.per_round)))

    def _image_folder(self) -> None:
        to_tensor = [transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))]
        resize = transforms.Compose([transforms.Resize(self.size), transforms.CenterCrop(self.size), *to_tensor])
        data = ImageFolder(str(self.folder), transform=resize)
        wanted = {str(self.folder / name) for name in self.names[: self.per_round]}
        subset = Subset(data, [place for place, (path, _) in enumerate(data.samples) if path in wanted])
        loader = DataLoader(subset, BATCH_SIZE, shuffle=True, num_workers=WORKERS)
        consume((images for images, _ in loader), lambda batch: batch, self.per_round)

    def _loader_on_file(self) -> None:
        loader = DataLoader(
            DecodedFile(self.kept), BATCH_SIZE, shuffle=True, num_workers=WORKERS, collate_fn=lambda batch: batch
        )
        consume(loader, lambda batch: normalize(to_float(batch)), self.per_round)

    def _ray_data(self) -> None:
        import ray.data

        paths = [str(self.folder / name) for name in self.names[: self.per_round]]
        rows = ray.data.read_images(paths, size=(self.size, self.size), mode="RGB", shuffle="files")
        batches = rows.iter_torch_batches(batch_size=BATCH_SIZE, local_shuffle_buffer_size=1_000)
        consume((batch["image"] for batch in batches), lambda batch: normalize(to_float(batch)), self.per_round)


def main() -> None:
    """Makes the images, prints the table, and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, required=True, help="where the JPEG files are, or are made")
    parser.add_argument("--images", type=int, default=100_000, help="JPEG files in the folder")
    parser.add_argument("--images-a-round", type=int, default=4_000, help="of them, for each contestant")
    parser.add_argument("--size", type=int, default=128, help="pixels a side that they are resized to")
    parser.add_argument("--rounds", type=int, default=5, help="that count")
    parser.add_argument("--ray-data", action="store_true", help="measure Ray Data too")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = make_images(arguments.folder.absolute(), arguments.images)
    if arguments.ray_data:
        import ray

        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    contest = Contest(
        arguments.folder.absolute(), names, arguments.size, arguments.images_a_round, arguments.ray_data
    )
    try:
        timed = {name: partial(contest.timed, name) for name in contest.contestants}
        figures = alternate(timed, arguments.rounds)
    finally:
        shutil.rmtree(contest.caches)
    rows: list[dict[str, Any]] = []
    ratios = {}
    for name, speeds in figures.items():
        ratios[f"{name}/image_folder"] = median_of_ratios(speeds, figures["image_folder"])
        cpu = median(contest.cpu_seconds[name][1:]) / arguments.images_a_round
        rows.append({"contestant": name, "images_per_second": round(median(speeds)), "cpu_ms_per_image": cpu * 1e3})
        print(
            f"{name:<16}{median(speeds):>8,.0f} images/s{ratios[f'{name}/image_folder']:>8.2f} × image_folder"
            f"{cpu * 1e3:>8.2f} ms of a processor an image"
        )
    if arguments.json:
        write_result(arguments.json, "streaming", CPU, arguments.rounds, rows, ratios)


if __name__ == "__main__":
    main()
