"""Depth: He's initialization against Xavier's, the paper's Figures 2 and 3 in small.

Fully connected ReLU nets start from ½ n Var[w] = 1 (He) or from n Var[w] = 1, which is what the paper
compares with as "Xavier". Both draw the same random numbers, so every weight differs by exactly √2, the
same units are on and off, and the signal on the way back through the 29 upper weight matrices of a
30-layer net differs by √2²⁹ = 23,170. What is measured also has the loss in it: He's outputs are larger,
so its softmax is further from uniform. Glorot and Bengio's own 2 / (n + n̂) differs from 1 / n only
where a layer's two sides do, in the first and the last layer; its ratio is given too.
"""

from __future__ import annotations

import math
from functools import partial

import halfwave as hw
from halfwave import _arrays, models, nn
from halfwave.study.data import Images
from halfwave.study.training import Figures, Settings, Tick, mean, probe, std, train

SCHEMES = ("He", "Xavier")


def initializer(scheme: str) -> nn.Initializer:
    """Normal weights with variance 2/n ("He"), 1/n ("Xavier") or 2/(n + n̂) ("Glorot")."""
    return {
        "He": hw.init.he_normal,
        "Xavier": partial(hw.init.he_normal, negative_slope=1.0),  # 2 / ((1 + 1²) n)
        "Glorot": hw.init.xavier_normal,
    }[scheme]


def ticks(settings: Settings) -> int:
    """How many times `run` calls `tick`."""
    nets = len(settings.depths) * len(SCHEMES)
    steps = settings.depth_looks * settings.every * settings.depth_seeds
    return nets * (steps + 1) + 3 * settings.ratio_seeds


def run(images: Images, settings: Settings, tick: Tick) -> Figures:
    """Error curves, the signal's strength by layer at the start, and the first layer's gradients."""
    figures: Figures = {"curves": {}, "signal": {}}
    for depth in settings.depths:
        signal = figures["signal"][str(depth)] = {}
        curves = figures["curves"][str(depth)] = {}
        for scheme in SCHEMES:
            signal[scheme] = signal_by_layer(images, settings, depth, scheme, settings.seed)
            tick()
            runs = []
            for number in range(settings.depth_seeds):
                seed = settings.seed + number
                net = _net(images, settings, depth, scheme, seed)
                runs.append(
                    train(net, images, settings, looks=settings.depth_looks, seed=seed, tick=tick)
                )
            final = [run["test_error"][-1] for run in runs]
            curves[scheme] = {
                "batch": runs[0]["batch"],
                "step": runs[0]["step"],
                "test_error": [run["test_error"] for run in runs],
                "loss": [run["loss"] for run in runs],
                "weights_sha256": [run["weights_sha256"] for run in runs],
                "final_error": mean(final),
            }
    figures["ratio"] = ratios(images, settings, tick)
    return figures


def _net(images: Images, settings: Settings, depth: int, scheme: str, seed: int) -> nn.Sequential:
    return models.fully_connected(
        depth,
        inputs=images.train[0].size,
        width=settings.width,
        classes=images.classes,
        initializer=initializer(scheme),
        seed=seed,
        device=settings.device,
    )


def signal_by_layer(
    images: Images, settings: Settings, depth: int, scheme: str, seed: int
) -> Figures:
    """Standard deviations of the responses, the gradients there and the weights' gradients."""
    net = _net(images, settings, depth, scheme, seed)
    responses, _, gradients = probe(net, images, settings.probe_images)
    weights = [
        _arrays.to_host(layer.weight.gradient) for layer in net if isinstance(layer, nn.Linear)
    ]
    return {
        "response_std": [std(values) for values in responses],
        "gradient_std": [std(values) for values in gradients],
        "weight_gradient_std": [std(values) for values in weights],
    }


def ratios(images: Images, settings: Settings, tick: Tick) -> Figures:
    """Gradients with He over those with Xavier by layer, in the deepest net, seed by seed."""
    depth = max(settings.depths)
    by_scheme: dict[str, list[Figures]] = {}
    for scheme in (*SCHEMES, "Glorot"):
        by_scheme[scheme] = []
        for number in range(settings.ratio_seeds):
            by_scheme[scheme].append(
                signal_by_layer(images, settings, depth, scheme, settings.seed + number)
            )
            tick()

    def ratio(of: str, other: str) -> list[list[float]]:
        return [
            [a / b for a, b in zip(he[of], rival[of], strict=True)]
            for he, rival in zip(by_scheme["He"], by_scheme[other], strict=True)
        ]

    by_layer = ratio("gradient_std", "Xavier")
    first = [seed[0] for seed in by_layer]
    glorot = [seed[0] for seed in ratio("gradient_std", "Glorot")]
    of_weights = [seed[0] for seed in ratio("weight_gradient_std", "Xavier")]
    theory = math.sqrt(2) ** (depth - 1)
    last = math.sqrt((settings.width + images.classes) / settings.width)
    return {
        "depth": depth,
        "theory": theory,
        "by_layer": [mean(layer) for layer in zip(*by_layer, strict=True)],
        "first_layer": {
            "seeds": first,
            "mean": mean(first),
            "std": std(first),
            "over_theory": mean(first) / theory,
        },
        "first_layer_weights": {
            "seeds": of_weights,
            "mean": mean(of_weights),
            "std": std(of_weights),
        },
        "first_layer_glorot": {
            "seeds": glorot,
            "mean": mean(glorot),
            "std": std(glorot),
            "theory": theory / math.sqrt(2) * last,
        },
    }
