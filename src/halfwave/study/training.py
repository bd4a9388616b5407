"""What the experiments share: settings, training, and statistics that are the same on every run.

NumPy's own sums may be added in an order that depends on the machine, so statistics are halfwave's own
sums, counts and binary exponents.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import halfwave as hw
from halfwave import _arrays, nn
from halfwave.study.data import Images

Figures = dict[str, Any]  # what an experiment found: plain lists, numbers and strings
Tick = Callable[[], None]  # moves the progress bar by one training step or measurement


@dataclass(frozen=True)
class Settings:
    """How long and how wide the experiments are; the defaults are the full study's."""

    seed: int = 0
    device: str = "cpu"
    batch: int = 128
    every: int = 31  # training steps between looks at the test error: an epoch of the 4000 digits
    learning_rate: float = 0.01
    momentum: float = 0.9
    width: int = 128
    depths: tuple[int, ...] = (10, 22, 30)
    depth_looks: int = 15
    depth_seeds: int = 2
    ratio_seeds: int = 10
    probe_images: int = 1000  # whose activations and gradients are looked at
    initializer_depth: int = 10
    initializer_looks: int = 5
    zero_depth: int = 4
    zero_steps: int = 100
    prelu_batch: int = 64
    prelu_looks: int = 10
    prelu_seeds: int = 2


def settings(seed: int = 0, *, device: str = "cpu", quick: bool = False) -> Settings:
    """The full study's settings, or those of the quick one."""
    if not quick:
        return Settings(seed=seed, device=device)
    return Settings(
        seed=seed,
        device=device,
        depth_looks=5,
        depth_seeds=1,
        ratio_seeds=3,
        probe_images=250,
        initializer_looks=2,
        zero_steps=40,
        prelu_looks=5,
        prelu_seeds=1,
    )


def train(
    net: nn.Sequential,
    images: Images,
    settings: Settings,
    *,
    looks: int,
    seed: int,
    tick: Tick,
    weight_decay: float = 0.0,
    flat: bool = True,
) -> Figures:
    """Trains for ``looks * settings.every`` steps; the test error at each look, from before the first.

    The order of the images depends on `seed` and the epoch alone; a last smaller batch is left out.
    """
    x, labels = images.train, images.train_labels
    if flat:
        x = x.reshape(len(x), -1)
    optimizer = nn.SGD(
        net.parameters(),
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=weight_decay,
    )
    batch = min(settings.batch, len(x))
    batches = len(x) // batch
    figures: Figures = {
        "batch": batch,
        "step": [0],
        "test_error": [error(net, images, flat=flat)],
        "loss": [],
    }
    losses: list[float] = []
    order = np.empty(0, np.intp)
    for step in range(looks * settings.every):
        epoch, place = divmod(step, batches)
        if place == 0:
            words = hw.random.bits((len(x),), seed=seed, stream=f"order.{epoch}")
            order = np.argsort(words, kind="stable")
        chosen = order[place * batch : (place + 1) * batch]
        losses.append(train_step(net, optimizer, x[chosen], labels[chosen]))
        tick()
        if (step + 1) % settings.every == 0:
            figures["step"].append(step + 1)
            figures["test_error"].append(error(net, images, flat=flat))
            figures["loss"].append(mean(losses))
            losses.clear()
    figures["weights_sha256"] = digest(net)
    return figures


def digest(net: nn.Sequential) -> str:
    """A SHA-256 of all parameters' names and values."""
    sha = hashlib.sha256()
    for p in net.parameters():
        values = _arrays.to_host(p.value)
        sha.update(p.name.encode() + values.astype(values.dtype.newbyteorder("<")).tobytes())
    return sha.hexdigest()


def train_step(net: nn.Sequential, optimizer: nn.SGD, x: np.ndarray, labels: np.ndarray) -> float:
    """One step on one batch; its loss."""
    x, labels = (_arrays.to_device(array, net.device) for array in (x, labels))
    logits = net.forward(x, training=True)
    loss = float(hw.softmax_cross_entropy(logits, labels))
    net.backward(hw.softmax_cross_entropy_backward(logits, labels), input_gradient=False)
    optimizer.step()
    return loss


def error(net: nn.Sequential, images: Images, *, flat: bool = True) -> float:
    """The share of test images that the net gets wrong."""
    wrong = 0
    for start in range(0, len(images.test), 500):
        x = images.test[start : start + 500]
        x = _arrays.to_device(x.reshape(len(x), -1) if flat else x, net.device)
        scores = _arrays.to_host(net.forward(x))
        wrong += int(np.count_nonzero(scores.argmax(1) != images.test_labels[start : start + 500]))
    return wrong / len(images.test)


def probe(
    net: nn.Sequential,
    images: Images,
    count: int,
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Responses of all layers, and the gradients of each image's own loss with respect to them.

    For the net's fully connected layers, first to last: what the layer computes for `count` training
    images (before the activation), the activations that follow, and ∂loss/∂response.
    """
    step = max(1, len(images.train) // count)
    x = images.train[::step][:count]
    x = _arrays.to_device(x.reshape(len(x), -1), net.device)
    labels = _arrays.to_device(images.train_labels[::step][:count], net.device)
    responses, activations, gradients = [], [], []
    for layer in net:
        x = layer.forward(x)
        to = responses if isinstance(layer, nn.Linear) else activations
        to.append(_arrays.to_host(x))
    # The loss is a mean over images: its gradient times their number is that of each image's own.
    dy = hw.softmax_cross_entropy_backward(x, labels)
    for layer in reversed(net.layers):
        if isinstance(layer, nn.Linear):
            gradients.append(_arrays.to_host(dy).astype(np.float64) * len(x))
        dy = layer.backward(dy)
    return responses, activations, gradients[::-1]


# ---- statistics -----------------------------------------------------------------------------------


def mean(values: Any) -> float:
    """The sum, in float64 and in the contract's order, divided by the count."""
    values = np.asarray(values, np.float64).reshape(-1, 1)
    return float(hw.matmul_backward_bias(values)[0]) / values.size


def std(values: Any) -> float:
    """The standard deviation (divided by the count)."""
    values = np.asarray(values, np.float64).ravel()
    return math.sqrt(mean((values - mean(values)) ** 2))


def magnitudes(values: np.ndarray) -> Figures:
    """How many values are zero, and how many lie in each [2^(e-1), 2^e)."""
    values = np.asarray(values, np.float64).ravel()
    finite = values[np.isfinite(values)]
    _, exponents = np.frexp(finite[finite != 0])
    found, counts = np.unique(exponents, return_counts=True)
    return {
        "count": int(values.size),
        "zero": int(np.count_nonzero(values == 0)),
        "not_finite": int(values.size - finite.size),
        "exponents": found.tolist(),
        "counts": counts.tolist(),
    }
