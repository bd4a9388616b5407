"""The older initializers, and what each gets wrong.

Zero: all units of a layer stay equal, and with ReLU or tanh the hidden layers never move. A normal with
a fixed standard deviation: 0.01 makes the signal vanish, 1 makes it explode (ReLU) or saturate (tanh).
LeCun (variance 1/n) and Xavier (2/(n + n̂)) keep the signal of linear units, He (2/n) that of ReLUs.
"""

from __future__ import annotations

from functools import partial

import numpy as np

import halfwave as hw
from halfwave import _arrays, models, nn
from halfwave.study.data import Images
from halfwave.study.training import (
    Figures,
    Settings,
    Tick,
    magnitudes,
    probe,
    std,
    train,
    train_step,
)

ACTIVATIONS = ("relu", "tanh")
ZERO_ACTIVATIONS = ("relu", "tanh", "sigmoid")


def initializers() -> dict[str, nn.Initializer]:
    """Label and function of those compared."""
    return {
        "Zero": hw.init.zeros,
        "Normal, std 0.01": partial(hw.init.normal, std=0.01),
        "Normal, std 1": partial(hw.init.normal, std=1.0),
        "LeCun": hw.init.lecun_normal,
        "Xavier": hw.init.xavier_normal,
        "He": hw.init.he_normal,
    }


def ticks(settings: Settings) -> int:
    """How many times `run` calls `tick`."""
    nets = len(ACTIVATIONS) * len(initializers())
    return (
        nets * (settings.initializer_looks * settings.every + 1)
        + (len(ZERO_ACTIVATIONS) + 1) * settings.zero_steps
    )


def run(images: Images, settings: Settings, tick: Tick) -> Figures:
    """Histograms by layer at the start and the error after training; what zero weights do."""
    figures: Figures = {"start": {}, "zero": {}}
    for activation in ACTIVATIONS:
        start = figures["start"][activation] = {}
        for label, initializer in initializers().items():
            start[label] = _start(images, settings, activation, initializer)
            tick()
            net = _net(images, settings, settings.initializer_depth, activation, initializer)
            curve = train(
                net,
                images,
                settings,
                looks=settings.initializer_looks,
                seed=settings.seed,
                tick=tick,
            )
            start[label]["step"] = curve["step"]
            start[label]["test_error"] = curve["test_error"]
            start[label]["weights_sha256"] = [curve["weights_sha256"]]
    for activation in ZERO_ACTIVATIONS:
        figures["zero"][activation] = _movement(images, settings, activation, hw.init.zeros, tick)
    figures["zero"]["relu, He"] = _movement(images, settings, "relu", hw.init.he_normal, tick)
    return figures


def _net(
    images: Images, settings: Settings, depth: int, activation: str, initializer: nn.Initializer
) -> nn.Sequential:
    return models.fully_connected(
        depth,
        inputs=images.train[0].size,
        width=settings.width,
        classes=images.classes,
        activation=activation,
        initializer=initializer,
        seed=settings.seed,
        device=settings.device,
    )


def _start(
    images: Images, settings: Settings, activation: str, initializer: nn.Initializer
) -> Figures:
    net = _net(images, settings, settings.initializer_depth, activation, initializer)
    _, activations, gradients = probe(net, images, settings.probe_images)
    return {
        "activations": [magnitudes(values) for values in activations],
        "activation_std": [std(values) for values in activations],
        "saturated": [
            int(np.count_nonzero(np.abs(values) > 0.99)) / values.size for values in activations
        ]
        if activation == "tanh"
        else None,
        "gradients": [magnitudes(values) for values in gradients[:-1]],
        "gradient_std": [std(values) for values in gradients[:-1]],
    }


def _movement(
    images: Images, settings: Settings, activation: str, initializer: nn.Initializer, tick: Tick
) -> Figures:
    """How far each layer's weights moved in training, and whether its units are still equal."""
    net = _net(images, settings, settings.zero_depth, activation, initializer)
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    start = [_arrays.to_host(layer.weight.value).copy() for layer in layers]
    optimizer = nn.SGD(
        net.parameters(), learning_rate=settings.learning_rate, momentum=settings.momentum
    )
    x = images.train.reshape(len(images.train), -1)
    words = hw.random.bits((len(x),), seed=settings.seed, stream="order.0")
    order = np.argsort(words, kind="stable")
    for step in range(settings.zero_steps):
        chosen = np.take(
            order, range(step * settings.batch, (step + 1) * settings.batch), mode="wrap"
        )
        train_step(net, optimizer, x[chosen], images.train_labels[chosen])
        tick()
    weights = [_arrays.to_host(layer.weight.value) for layer in layers]
    biases = [_arrays.to_host(layer.bias.value) for layer in layers]
    return {
        "weights_moved": [
            float(np.abs(values - old).max()) for values, old in zip(weights, start, strict=True)
        ],
        "biases_moved": [float(np.abs(values).max()) for values in biases],
        "different_units": [len(np.unique(values + np.float32(0), axis=0)) for values in weights],
        "units": [len(values) for values in weights],
    }
