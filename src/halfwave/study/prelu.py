"""PReLU against ReLU on a small conv net: error curves and the slopes that training finds.

The slopes start at 0.25, have no weight decay and no bounds (He et al. 2015, section 2). Table 1 of the
paper found 0.681 at conv1, and slopes that shrink with depth.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import halfwave as hw
from halfwave import _arrays, models, nn
from halfwave.study.data import Images
from halfwave.study.training import Figures, Settings, Tick, mean, std, train

KINDS = ("relu", "prelu", "prelu_shared")
WEIGHT_DECAY = 5e-4
SLOPE = 0.25


def ticks(settings: Settings) -> int:
    """How many times `run` calls `tick`."""
    return len(KINDS) * settings.prelu_seeds * settings.prelu_looks * settings.every


def run(images: Images, settings: Settings, tick: Tick) -> Figures:
    """Error curves of the three kinds, and the learned slopes by layer of the two with slopes."""
    settings = replace(settings, batch=settings.prelu_batch)
    figures: Figures = {
        "curves": {},
        "slopes": {},
        "network": models.DIGITS.table(images.train.shape[2], images.train.shape[1]).splitlines(),
    }
    for kind in KINDS:
        runs, nets = [], []
        for number in range(settings.prelu_seeds):
            net = _net(images, kind, settings.seed + number, settings.device)
            runs.append(
                train(
                    net,
                    images,
                    settings,
                    looks=settings.prelu_looks,
                    seed=settings.seed + number,
                    tick=tick,
                    weight_decay=WEIGHT_DECAY,
                    flat=False,
                )
            )
            nets.append(net)
        figures["curves"][kind] = {
            "batch": runs[0]["batch"],
            "step": runs[0]["step"],
            "test_error": [run["test_error"] for run in runs],
            "loss": [run["loss"] for run in runs],
            "weights_sha256": [run["weights_sha256"] for run in runs],
            "final_error": mean([run["test_error"][-1] for run in runs]),
        }
        if kind != "relu":
            figures["slopes"][kind] = _slopes(nets)
    return figures


def _net(images: Images, kind: str, seed: int, device: str) -> nn.Sequential:
    _, channels, size, _ = images.train.shape
    slope = 0.0 if kind == "relu" else SLOPE
    return models.DIGITS.build(
        image=size,
        channels=channels,
        classes=images.classes,
        activation=kind,
        dropout=0.25,
        seed=seed,
        device=device,
        initializer=partial(hw.init.he_normal, negative_slope=slope),
    )


def _slopes(nets: list[nn.Sequential]) -> Figures:
    """By layer: its name, and mean, std, least and largest of its slopes over all nets."""
    found: dict[str, list[float]] = {}
    for net in nets:
        weights = ""
        for layer in net:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                weights = layer.name
            elif isinstance(layer, nn.PReLU):
                found.setdefault(weights, []).extend(_arrays.to_host(layer.slope.value).tolist())
    return {
        name: {
            "mean": mean(values),
            "std": std(values),
            "least": min(values),
            "largest": max(values),
            "values": values,
        }
        for name, values in found.items()
    }
