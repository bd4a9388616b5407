"""Layers: thin plain Python over the operations, as much as the paper's nets need.

A layer has ``forward(x, training=False)`` and ``backward(dy)``, which keeps what it needs in between,
stores the gradients of its parameters and returns that of its input. Every parameter is drawn from a
random stream named after it ("conv1.weight"), so adding a layer changes the weights of no other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

import halfwave as hw
from halfwave import _arrays
from halfwave.dropout import drop_rate

Initializer = Callable[..., np.ndarray]


class Parameter:
    """An array that training changes.

    Parameters
    ----------
    name : str
        Its name, which is also its random stream.
    value : array
        The array itself, of NumPy or CuPy; `SGD` updates it in place.
    decay : bool
        Whether weight decay applies. PReLU's slopes have none (He et al. 2015, section 2.1).
    """

    def __init__(self, name: str, value: np.ndarray, *, decay: bool = True) -> None:
        self.name = name
        self.value = value
        self.decay = decay
        zeros = _arrays.library(value).zeros
        self.gradient = zeros(value.shape, value.dtype)
        self.velocity = zeros(value.shape, value.dtype)

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, shape={self.value.shape})"


class Layer:
    """What every layer offers; those without parameters override `forward` and `backward` only."""

    name = ""

    def parameters(self) -> list[Parameter]:
        """The layer's parameters, in a fixed order."""
        return []

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """The layer's output for a batch `x`."""
        raise NotImplementedError

    def backward(self, dy: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        """The gradient of the last `forward`'s input; None if it is not asked for."""
        raise NotImplementedError


def _weight(
    initializer: Initializer | None, shape: Sequence[int], layer: str, seed: int, **place: str
) -> Parameter:
    name, draw = f"{layer}.weight", initializer or hw.init.he_normal
    return Parameter(name, draw(shape, seed=seed, stream=name, **place))


def _of_groups(initializer: Initializer | None, groups: int) -> Initializer:
    """The initializer, told of the groups if it goes by the fans, which they make smaller."""
    draw = initializer or hw.init.he_normal
    function = draw.func if isinstance(draw, partial) else draw
    return partial(draw, groups=groups) if function in hw.init.WITH_GROUPS else draw


class Linear(Layer):
    """y = x Wᵀ + b for x of shape (batch, inputs) and W of shape (outputs, inputs).

    Parameters
    ----------
    inputs, outputs : int
        Sizes of the input and the output vectors.
    name : str
        Names the layer, its parameters and their random streams.
    initializer : callable
        Any function of `halfwave.init`; the bias starts at zero.
    seed : int
        The seed of the weights.
    dtype : str
        "float32" or "float64".
    device : str
        "cpu" or "cuda": where the parameters lie, and so where the layer computes.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        name: str = "linear",
        initializer: Initializer | None = None,
        seed: int = 0,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        self.name = name
        place = {"dtype": dtype, "device": device}
        self.weight = _weight(initializer, (outputs, inputs), name, seed, **place)
        self.bias = Parameter(f"{name}.bias", hw.init.zeros(outputs, **place))

    def parameters(self) -> list[Parameter]:
        return [self.weight, self.bias]

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self._x = x
        return hw.matmul(x, self.weight.value.T, bias=self.bias.value)

    def backward(self, dy: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        self.weight.gradient = hw.matmul(dy.T, self._x)
        self.bias.gradient = hw.matmul_backward_bias(dy)
        return hw.matmul(dy, self.weight.value) if input_gradient else None


class Conv2d(Layer):
    """A 2-D convolution of x (batch, channels, height, width) with W (outputs, channels/groups, kh, kw).

    Parameters
    ----------
    channels, outputs : int
        Numbers of input and output channels.
    kernel : int or pair of int
        Size of the kernel.
    stride, padding, dilation, groups
        As in `halfwave.conv2d`.
    name, initializer, seed, dtype, device
        As in `Linear`. An initializer that goes by the fans is told of the groups.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: Any = 0,
        dilation: int = 1,
        groups: int = 1,
        name: str = "conv",
        initializer: Initializer | None = None,
        seed: int = 0,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        groups = _arrays.integer(groups, "groups", minimum=1)
        channels = _arrays.integer(channels, "channels", minimum=1)
        if channels % groups:
            raise ValueError(f"groups must divide the {channels} channels, not {groups}")
        shape = (outputs, channels // groups, *_arrays.pair(kernel, "kernel"))
        place = {"dtype": dtype, "device": device}
        self.name = name
        self.weight = _weight(_of_groups(initializer, groups), shape, name, seed, **place)
        self.bias = Parameter(f"{name}.bias", hw.init.zeros(outputs, **place))
        self.geometry: dict[str, Any] = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
        }

    def parameters(self) -> list[Parameter]:
        return [self.weight, self.bias]

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self._x = x
        return hw.conv2d(x, self.weight.value, self.bias.value, **self.geometry)

    def backward(self, dy: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        weight = self.weight.value
        self.weight.gradient = hw.conv2d_backward_weight(dy, self._x, weight.shape, **self.geometry)
        self.bias.gradient = hw.conv2d_backward_bias(dy)
        if not input_gradient:
            return None
        return hw.conv2d_backward_input(dy, weight, self._x.shape, **self.geometry)


class ReLU(Layer):
    """max(0, x)."""

    def __init__(self, *, name: str = "relu") -> None:
        self.name = name

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self._x = x
        return hw.relu(x)

    def backward(self, dy: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        return hw.relu_backward(dy, self._x)


class PReLU(Layer):
    """max(0, x) + a min(0, x) with a learned slope a (He et al. 2015, equation 1).

    Parameters
    ----------
    channels : int
        1 for a slope that all channels share, else one slope a channel (axis 1).
    slope : float
        The slopes' start; the paper's is 0.25.
    name, dtype, device
        As in `Linear`.
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        slope: float = 0.25,
        name: str = "prelu",
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        self.name = name
        start = hw.init.constant(channels, slope, dtype=dtype, device=device)
        self.slope = Parameter(f"{name}.slope", start, decay=False)

    def parameters(self) -> list[Parameter]:
        return [self.slope]

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self._x = x
        return hw.prelu(x, self.slope.value, axis=1)

    def backward(self, dy: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        dx, self.slope.gradient = hw.prelu_backward(dy, self._x, self.slope.value, axis=1)
        return dx


class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    def __init__(self, *, name: str = "sigmoid") -> None:
        self.name = name

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self._y = hw.sigmoid(x)
        return self._y

    def backward(self, dy: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        return hw.sigmoid_backward(dy, self._y)


class Tanh(Layer):
    """The hyperbolic tangent."""

    def __init__(self, *, name: str = "tanh") -> None:
        self.name = name

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self._y = hw.tanh(x)
        return self._y

    def backward(self, dy: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        return hw.tanh_backward(dy, self._y)


class MaxPool2d(Layer):
    """The maximum of each window: see `halfwave.max_pool2d`."""

    def __init__(self, size: int, *, stride: int | None = None, name: str = "pool") -> None:
        self.name = name
        self.size = size
        self.stride = stride

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self._x = x
        return hw.max_pool2d(x, self.size, stride=self.stride)

    def backward(self, dy: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        return hw.max_pool2d_backward(dy, self._x, self.size, stride=self.stride)


class SpatialPyramidPool(Layer):
    """Maxima over grids of l x l bins a level l, as a vector: see `halfwave.spatial_pyramid_pool`."""

    def __init__(self, levels: Sequence[int], *, name: str = "spp") -> None:
        self.name = name
        self.levels = tuple(levels)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self._x = x
        return hw.spatial_pyramid_pool(x, self.levels)

    def backward(self, dy: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        return hw.spatial_pyramid_pool_backward(dy, self._x, self.levels)


class Dropout(Layer):
    """Zeroes a share `rate` of the values in training and scales the others by 1 / (1 - rate).

    The mask of the n-th training pass is drawn from stream "<name>.<n>".
    """

    def __init__(self, rate: float = 0.5, *, name: str = "dropout", seed: int = 0) -> None:
        self.name = name
        self.rate = drop_rate(rate)
        self.seed = seed
        self.passes = 0
        self._training = False

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self._training = training
        if not training:
            return x
        self.passes += 1
        return hw.dropout(x, self.rate, seed=self.seed, stream=f"{self.name}.{self.passes}")

    def backward(self, dy: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        if not self._training:
            return dy
        return hw.dropout_backward(
            dy, self.rate, seed=self.seed, stream=f"{self.name}.{self.passes}"
        )


class Flatten(Layer):
    """(batch, …) to (batch, features)."""

    def __init__(self, *, name: str = "flatten") -> None:
        self.name = name

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        self._shape = x.shape
        return _arrays.contiguous(x).reshape(x.shape[0], math.prod(x.shape[1:]))

    def backward(self, dy: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        return dy.reshape(self._shape)


class Sequential(Layer):
    """Layers one after another.

    Parameters
    ----------
    layers : sequence of Layer
        At least one; their names must differ where they have parameters.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = list(layers)
        if not self.layers:
            raise ValueError("layers must not be empty")
        names = [p.name for p in self.parameters()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"layers must have parameters of different names; twice: {twice}")

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def parameters(self) -> list[Parameter]:
        return [p for layer in self.layers for p in layer.parameters()]

    @property
    def device(self) -> str:
        """Where the parameters lie: "cpu" or "cuda"."""
        return next((_arrays.device(p.value) for p in self.parameters()), "cpu")

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, dy: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        for layer in reversed(self.layers[1:]):
            dy = layer.backward(dy)
        return self.layers[0].backward(dy, input_gradient)


def activation(
    kind: str, channels: int = 1, *, name: str, dtype: str = "float32", device: str = "cpu"
) -> Layer:
    """The activation layer "relu", "prelu" (a slope a channel), "prelu_shared", "sigmoid" or "tanh"."""
    if kind == "prelu":
        return PReLU(channels, name=name, dtype=dtype, device=device)
    if kind == "prelu_shared":
        return PReLU(1, name=name, dtype=dtype, device=device)
    plain: dict[str, type[ReLU | Sigmoid | Tanh]] = {"relu": ReLU, "sigmoid": Sigmoid, "tanh": Tanh}
    _arrays.choice(kind, "activation", ("prelu", "prelu_shared", *plain))
    return plain[kind](name=name)
