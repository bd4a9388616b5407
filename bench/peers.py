"""What the suites share: inputs from a fixed seed, digests, and peers with their threads set."""

from __future__ import annotations

import numpy as np


def array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def digest(result) -> list[float]:
    """Two sums that libraries must agree on; one of them depends on the order."""
    result = np.asarray(result, dtype=np.float64).reshape(-1)
    return [float(result @ np.cos(np.arange(result.size))), float(np.abs(result).sum())]


def agree(one: list[float], other: list[float]) -> bool:
    return all(abs(a - b) <= 1e-4 * max(other[-1], 1e-30) for a, b in zip(one, other, strict=True))


def halfwave(threads: int):
    import halfwave

    halfwave.set_num_threads(threads)
    return halfwave


def torch(threads: int):
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    return torch
