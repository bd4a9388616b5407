"""The networks of He et al. 2015 as layer tables, and the small ones of the study.

A `Network` is a plain list of rows. It counts its multiply-adds, prints as a table, and builds itself
as an `nn.Sequential` at any width and image size, so the paper's nets can be trained in small.

>>> from halfwave import models
>>> model = models.MODEL_A.build(image=64, classes=10, width=1 / 16, seed=1)
>>> print(models.MODEL_A.table())
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import halfwave as hw
from halfwave import _arrays, nn


@dataclass(frozen=True)
class Conv:
    """A convolution that keeps the image's size up to its stride, and an activation."""

    kernel: int
    outputs: int
    stride: int = 1


@dataclass(frozen=True)
class Pool:
    """Maximum pooling without padding."""

    kernel: int
    stride: int


@dataclass(frozen=True)
class Pyramid:
    """Spatial pyramid pooling to a vector."""

    levels: tuple[int, ...]


@dataclass(frozen=True)
class Full:
    """A fully connected layer, and an activation unless it is the last."""

    outputs: int


Row = Conv | Pool | Pyramid | Full


@dataclass(frozen=True)
class Planned:
    """A row with its name and the sizes it gets in a network."""

    name: str
    row: Row
    inputs: int
    outputs: int
    size: int
    weights: int
    multiply_adds: int

    def describe(self) -> str:
        """The row in the paper's notation."""
        match self.row:
            case Conv(kernel, _, stride):
                return f"{kernel}x{kernel}, {self.outputs}" + (f", /{stride}" if stride > 1 else "")
            case Pool(kernel, stride):
                return f"{kernel}x{kernel} max pool, /{stride}"
            case Pyramid(levels):
                return f"pyramid {{{', '.join(map(str, levels))}}}"
            case Full():
                return str(self.outputs)


@dataclass(frozen=True)
class Network:
    """A network as a list of rows.

    Parameters
    ----------
    name : str
        What the paper or the study calls it.
    rows : tuple of Conv, Pool, Pyramid and Full
        From the image to the classes; the last one is `Full` and its size is replaced by `classes`.
    """

    name: str
    rows: tuple[Row, ...]

    @property
    def depth(self) -> int:
        """Number of layers with weights."""
        return sum(isinstance(row, (Conv, Full)) for row in self.rows)

    def plan(
        self, *, image: int = 224, channels: int = 3, classes: int | None = None, width: float = 1.0
    ) -> list[Planned]:
        """Names, sizes and costs of all rows; `width` scales every layer but the last."""
        image = _arrays.integer(image, "image", minimum=1)
        channels = _arrays.integer(channels, "channels", minimum=1)
        if classes is not None:
            classes = _arrays.integer(classes, "classes", minimum=1)
        width = _arrays.number(width, "width")
        if width <= 0:
            raise ValueError(f"width must be positive, not {width}")
        planned: list[Planned] = []
        stage, place, full = 1, 0, 0
        size, count = image, channels  # of the map; size 0 once it is a vector
        for index, row in enumerate(self.rows):
            last = index == len(self.rows) - 1
            if isinstance(row, Conv):
                place += 1
                alone = not any(
                    isinstance(near, Conv)
                    for near in self.rows[max(index - 1, 0) : index]
                    + self.rows[index + 1 : index + 2]
                )
                name = f"conv{stage}" if alone else f"conv{stage}_{place}"
                outputs = max(1, round(row.outputs * width))
                size = -(-size // row.stride)
                weights = outputs * count * row.kernel**2
                cost = weights * size**2
            elif isinstance(row, Pool):
                name, outputs, weights, cost = f"pool{stage}", count, 0, 0
                if size < row.kernel:
                    raise ValueError(
                        f"image is too small for {self.name}: {name} gets {size} pixels"
                    )
                size = (size - row.kernel) // row.stride + 1
                stage, place = stage + 1, 0
            elif isinstance(row, Pyramid):
                name, weights, cost = "spp", 0, 0
                outputs, size = count * sum(level**2 for level in row.levels), 0
            else:
                full += 1
                name = f"fc{full}"
                count, size = count * max(size, 1) ** 2, 0
                outputs = (
                    classes
                    if last and classes is not None
                    else (row.outputs if last else max(1, round(row.outputs * width)))
                )
                weights = cost = outputs * count
            planned.append(Planned(name, row, count, outputs, size, weights, cost))
            count = outputs
        return planned

    def multiply_adds(self, image: int = 224, channels: int = 3) -> int:
        """Multiply-adds of a forward pass for one image."""
        return sum(row.multiply_adds for row in self.plan(image=image, channels=channels))

    def table(self, image: int = 224, channels: int = 3) -> str:
        """The layers with their output sizes and costs, as text."""
        plan = self.plan(image=image, channels=channels)
        lines = [f"{self.name}: {self.depth} layers, {image}x{image} image"]
        for row in plan:
            shape = f"{row.outputs}x{row.size}x{row.size}" if row.size else str(row.outputs)
            lines.append(f"{row.name:<9}{row.describe():<22}{shape:<14}{row.multiply_adds:>16,}")
        lines.append(f"{'':<45}{sum(row.multiply_adds for row in plan):>16,} multiply-adds")
        return "\n".join(lines)

    def build(
        self,
        *,
        image: int = 224,
        channels: int = 3,
        classes: int = 1000,
        width: float = 1.0,
        activation: str = "prelu",
        initializer: nn.Initializer | None = None,
        dropout: float = 0.5,
        seed: int = 0,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> nn.Sequential:
        """The network with weights.

        Parameters
        ----------
        image, channels, classes : int
            Side and channels of the (square) images, number of classes.
        width : float
            Scales the number of channels and units of every layer but the last.
        activation : str
            "relu", "prelu" (a slope a channel) or "prelu_shared" (one a layer).
        initializer : callable, optional
            For all weights. Left out, they start as the paper's: convolutions by
            ``he_normal(mode="fan_out")``, the last three fully connected layers with a standard
            deviation of 0.01, 0.01 and 0.001.
        dropout : float
            The rate after every fully connected layer but the last; 0 for none.
        seed : int
            The seed of weights and dropout.
        dtype : str
            "float32" or "float64".
        device : str
            "cpu" or "cuda".
        """
        layers: list[nn.Layer] = []
        plan = self.plan(image=image, channels=channels, classes=classes, width=width)
        place = {"dtype": dtype, "device": device}
        common = {"seed": seed, **place}
        for index, item in enumerate(plan):
            number = item.name.removeprefix("conv").removeprefix("fc")
            if isinstance(item.row, Conv):
                layers.append(
                    nn.Conv2d(
                        item.inputs,
                        item.outputs,
                        item.row.kernel,
                        stride=item.row.stride,
                        padding="same",
                        name=item.name,
                        **common,
                        initializer=initializer or partial(hw.init.he_normal, mode="fan_out"),
                    )
                )
                layers.append(nn.activation(activation, item.outputs, name=f"act{number}", **place))
            elif isinstance(item.row, Pool):
                layers.append(nn.MaxPool2d(item.row.kernel, stride=item.row.stride, name=item.name))
            elif isinstance(item.row, Pyramid):
                layers.append(nn.SpatialPyramidPool(item.row.levels, name=item.name))
            else:
                if plan[index - 1].size:
                    layers.append(nn.Flatten())
                last = index == len(plan) - 1
                layers.append(
                    nn.Linear(
                        item.inputs,
                        item.outputs,
                        name=item.name,
                        **common,
                        initializer=initializer
                        or partial(hw.init.normal, std=0.001 if last else 0.01),
                    )
                )
                if not last:
                    layers.append(
                        nn.activation(activation, item.outputs, name=f"act_fc{number}", **place)
                    )
                    if dropout:
                        layers.append(nn.Dropout(dropout, name=f"drop{number}", seed=seed))
        return nn.Sequential(layers)


def _large(name: str, first: int, a_stage: int, widths: tuple[int, int, int]) -> Network:
    rows: list[Row] = [Conv(7, first, 2)]
    for outputs in widths:
        rows += [Pool(2, 2), *[Conv(3, outputs)] * a_stage]
    return Network(name, (*rows, Pyramid((7, 3, 2, 1)), Full(4096), Full(4096), Full(1000)))


def _small(name: str, extra: int) -> Network:
    return Network(
        name,
        (
            Conv(7, 64, 2),
            Pool(3, 3),
            *[Conv(2, 128)] * 4,
            Pool(2, 2),
            *[Conv(2, 256)] * (6 + extra),
            Pyramid((6, 3, 2, 1)),
            Full(4096),
            Full(4096),
            Full(1000),
        ),
    )


MODEL_14 = _small("14-layer model (Table 1)", 0)
MODEL_30 = _small("30-layer model (Figure 3)", 16)
MODEL_A = _large("model A (Table 3)", 96, 5, (256, 512, 512))
MODEL_B = _large("model B (Table 3)", 96, 6, (256, 512, 512))
MODEL_C = _large("model C (Table 3)", 96, 6, (384, 768, 896))

# For digits of 28 x 28 pixels: the shape of model A, as small as a laptop likes.
DIGITS = Network(
    "small conv net for digits",
    (
        Conv(5, 8, 2),
        Conv(3, 16),
        Conv(3, 16),
        Pool(2, 2),
        Conv(3, 32),
        Conv(3, 32),
        Pyramid((3, 2, 1)),
        Full(64),
        Full(10),
    ),
)

PAPER = {"14": MODEL_14, "A": MODEL_A, "B": MODEL_B, "C": MODEL_C, "30": MODEL_30}


def fully_connected(
    depth: int,
    *,
    inputs: int = 784,
    width: int = 128,
    classes: int = 10,
    activation: str = "relu",
    initializer: nn.Initializer | None = None,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
) -> nn.Sequential:
    """A net of `depth` fully connected layers: inputs → width → … → width → classes."""
    depth = _arrays.integer(depth, "depth", minimum=1)
    sizes = [inputs, *[width] * (depth - 1), classes]
    place = {"dtype": dtype, "device": device}
    layers: list[nn.Layer] = []
    for index in range(depth):
        if index:
            layers.append(nn.activation(activation, sizes[index], name=f"act{index}", **place))
        layers.append(
            nn.Linear(
                sizes[index],
                sizes[index + 1],
                name=f"fc{index + 1}",
                initializer=initializer,
                seed=seed,
                **place,
            )
        )
    return nn.Sequential(layers)
