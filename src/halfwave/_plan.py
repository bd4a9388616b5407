"""Which algorithm serves a shape: a function of the shape alone, the same on every device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from . import _arrays

SEGMENT = 512  # kernels/common/contraction.h and CONTRACT.md section 3 hold the same
SUPER_SEGMENT = 16384

ALGORITHMS = ("auto", "direct", "winograd")
LAYOUTS = ("NCHW", "NHWC")


@dataclass(frozen=True)
class Plan:
    """How an operation of one shape is computed.

    Attributes
    ----------
    operation : str
        The operation's public name.
    algorithm : str
        ``"direct"``: every output is one contraction, as CONTRACT.md section 3 orders it.
        ``"winograd"``: F(4×4, 3×3), section 4.
    slices, rows, columns, contracted : int
        Independent products (a batch, the groups, Winograd's 36 frequencies), outputs of each, and
        terms of each output. For ``conv2d_backward_input`` with a stride, the largest of its
        contractions.
    segments, super_segments : int
        How many chains of fused multiply-adds fold into an output, and in how many groups.
    """

    operation: str
    algorithm: str
    slices: int
    rows: int
    columns: int
    contracted: int

    @property
    def segments(self) -> int:
        return -(-self.contracted // SEGMENT)

    @property
    def super_segments(self) -> int:
        return -(-self.contracted // SUPER_SEGMENT)


class Geometry(NamedTuple):
    """The sizes of a convolution, checked; vertical before horizontal."""

    batch: int
    channels: int
    size: tuple[int, int]
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    pads: tuple[int, int, int, int]  # top, bottom, left, right
    output_size: tuple[int, int]
    layout: str

    def x_shape(self) -> tuple[int, int, int, int]:
        return order(self.layout, self.batch, self.channels, *self.size)

    def y_shape(self) -> tuple[int, int, int, int]:
        return order(self.layout, self.batch, self.outputs, *self.output_size)

    def w_shape(self) -> tuple[int, int, int, int]:
        return (self.outputs, self.channels // self.groups, *self.kernel)


def order(layout: str, n: int, c: int, h: int, w: int) -> tuple[int, int, int, int]:
    return (n, c, h, w) if layout == "NCHW" else (n, h, w, c)


def geometry(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    layout: Any,
    x_name: str = "x",
    w_name: str = "w",
) -> Geometry:
    """Check a convolution's shapes and options, and work out the rest."""
    plain = (
        type(stride) is type(padding) is type(dilation) is type(groups) is int
        and type(layout) is str
    )
    # Others may not be hashable, or equal what is allowed, as (1, True) does (1, 1).
    work_out = _geometry if plain else _geometry.__wrapped__
    return work_out(x_shape, w_shape, stride, padding, dilation, groups, layout, x_name, w_name)


@lru_cache(256)
def _geometry(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    layout: Any,
    x_name: str,
    w_name: str,
) -> Geometry:
    _arrays.choice(layout, "layout", LAYOUTS)
    stride = _arrays.pair(stride, "stride")
    dilation = _arrays.pair(dilation, "dilation")
    groups = _arrays.integer(groups, "groups", minimum=1, maximum=2**31 - 1)
    if len(x_shape) != 4 or len(w_shape) != 4:
        name, shape = (w_name, w_shape) if len(x_shape) == 4 else (x_name, x_shape)
        raise ValueError(f"{name} must have 4 dimensions, not {len(shape)} (shape {shape})")
    batch, channels, height, width = (
        x_shape if layout == "NCHW" else (x_shape[0], x_shape[3], x_shape[1], x_shape[2])
    )
    outputs, group_channels, *_ = w_shape
    kernel = (w_shape[2], w_shape[3])
    if kernel[0] < 1 or kernel[1] < 1:
        raise ValueError(f"{w_name} must have a kernel of at least 1 × 1, not {w_shape}")
    if channels % groups or outputs % groups:
        raise ValueError(
            f"groups must divide the {channels} input and {outputs} output channels, not {groups}"
        )
    if group_channels != channels // groups:
        raise ValueError(
            f"{w_name} must have {channels // groups} input channels a group ({channels} of "
            f"{x_name} in {groups} groups), not {group_channels} (shape {w_shape})"
        )
    pads = _arrays.padding(padding, kernel, stride, dilation, (height, width))
    reach = ((kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1)
    room = (height + pads[0] + pads[1] - reach[0], width + pads[2] + pads[3] - reach[1])
    if min(room) < 0:
        i = 0 if room[0] < 0 else 1
        raise ValueError(
            f"{w_name} spans {reach[i]} in {('height', 'width')[i]} with its dilation, more than "
            f"the {room[i] + reach[i]} of {x_name} with its padding"
        )
    rows, columns = room[0] // stride[0] + 1, room[1] // stride[1] + 1
    _arrays.shape((batch, outputs, rows, columns), f"{x_name} and padding")
    return Geometry(
        batch, channels, (height, width), outputs, kernel, stride, dilation, groups, pads,
        (rows, columns), layout,
    )  # fmt: skip


def algorithm(value: Any, operation: str, g: Geometry) -> str:
    """The algorithm that serves a pass of a convolution, for the caller's choice."""
    _arrays.choice(value, "algorithm", ALGORITHMS)
    if value == "direct":
        return value
    possible = (
        g.kernel == (3, 3)
        and g.stride == g.dilation == (1, 1)
        and max(g.channels, g.outputs) <= SUPER_SEGMENT * g.groups
    )
    if value == "winograd":
        if not possible:
            raise ValueError(
                "algorithm 'winograd' needs a kernel of 3 × 3, stride 1, dilation 1 and at most "
                f"{SUPER_SEGMENT} channels a group, not {g.kernel}, {g.stride}, {g.dilation} and "
                f"{max(g.channels, g.outputs) // g.groups}"
            )
        return value
    return "winograd" if possible and winograd_pays(operation, g) else "direct"


def winograd_pays(operation: str, g: Geometry) -> bool:
    """Whether Winograd's convolution is the faster one, by the shape alone.

    The transforms must be shared by some channels; those of the weights by some tiles; and the
    tiles must not be mostly beyond the border. The limits were measured on CPUs.
    """
    if min(g.channels, g.outputs) < 16 * g.groups:
        return False
    size = g.size if operation == "conv2d_backward_input" else g.output_size
    tiles = g.batch * -(-size[0] // 4) * -(-size[1] // 4)
    few = 16 if operation == "conv2d_backward_weight" else 4
    return tiles >= few and g.batch * size[0] * size[1] >= 6 * tiles


def plan(operation: str, *shapes: tuple[int, ...], **options: Any) -> Plan:
    """How halfwave computes an operation of these shapes.

    Parameters
    ----------
    operation : str
        ``"matmul"``, ``"conv2d"``, ``"conv2d_backward_input"`` or ``"conv2d_backward_weight"``.
    *shapes : tuple of int
        Of ``a`` and ``b`` for a product, of ``x`` and ``w`` for every pass of a convolution.
    **options
        The convolution's stride, padding, dilation, groups, layout and algorithm.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError, TypeError
        If the operation is unknown or the shapes and options do not fit it.

    Examples
    --------
    >>> import halfwave as hw
    >>> hw.plan("conv2d", (8, 64, 56, 56), (128, 64, 3, 3), padding=1).contracted
    576
    """
    passes = ("conv2d", "conv2d_backward_input", "conv2d_backward_weight")
    _arrays.choice(operation, "operation", ("matmul", *passes))
    if len(shapes) != 2:
        raise ValueError(f"shapes must be two, not {len(shapes)}")
    first, second = (_arrays.shape(shape, "shapes") for shape in shapes)
    if operation == "matmul":
        if options:
            raise TypeError(f"options of a matmul must be none, not {', '.join(options)}")
        batch, rows, k, columns = matmul_sizes(first, second)
        return Plan(operation, "direct", math.prod(batch), rows, columns, k)
    unknown = options.keys() - {"stride", "padding", "dilation", "groups", "layout", "algorithm"}
    if unknown:
        raise TypeError(f"options has no {', '.join(sorted(unknown))}")
    asked = options.pop("algorithm", "auto")
    defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "layout": "NCHW"}
    g = geometry(first, second, **(defaults | options))
    chosen = algorithm(asked, operation, g)
    inputs, outputs = g.channels // g.groups, g.outputs // g.groups
    if chosen == "winograd":
        size = g.size if operation == "conv2d_backward_input" else g.output_size
        tiles = g.batch * math.prod(-(-n // 4) for n in size)
        rows, columns, contracted = {
            "conv2d": (outputs, tiles, inputs),
            "conv2d_backward_input": (inputs, tiles, outputs),
            "conv2d_backward_weight": (outputs, inputs, tiles),
        }[operation]
        return Plan(operation, chosen, 36 * g.groups, rows, columns, contracted)
    positions = g.batch * math.prod(g.output_size)
    taps = math.prod(g.kernel)
    if operation == "conv2d":
        return Plan(operation, chosen, g.groups, outputs, positions, inputs * taps)
    if operation == "conv2d_backward_weight":
        return Plan(operation, chosen, g.groups, outputs, inputs * taps, positions)
    columns, met = g.batch, 1
    for size, kernel, s, d in zip(g.size, g.kernel, g.stride, g.dilation, strict=True):
        columns *= -(-size // s)
        met *= -(-kernel // (s // math.gcd(s, d)))
    return Plan(operation, chosen, g.groups, inputs, columns, outputs * met)


def matmul_sizes(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[tuple[int, ...], int, int, int]:
    """(batch shape, m, k, n) by NumPy's rules; a vector is a matrix of one row or column."""
    if not a or not b:
        raise ValueError(f"{'b' if a else 'a'} must have at least one dimension")
    for shape, name in ((a, "a"), (b, "b")):
        if len(shape) > 16:  # as many as a kernel's View has
            raise ValueError(f"{name} must have at most 16 dimensions, not {len(shape)}")
    rows, k = (1, a[0]) if len(a) == 1 else a[-2:]
    kb, columns = (b[0], 1) if len(b) == 1 else b[-2:]
    if k != kb:
        raise ValueError(
            f"b must have {k} rows, as many as a has columns, not {kb} (shapes {a} and {b})"
        )
    batch = _broadcast(a[:-2], b[:-2])
    _arrays.shape((*batch, rows, columns), "a and b")
    return batch, rows, k, columns


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    longer = max(len(a), len(b))
    result = []
    for m, n in zip((1,) * (longer - len(a)) + a, (1,) * (longer - len(b)) + b, strict=True):
        if m != n and m != 1 and n != 1:
            raise ValueError(f"b must have a batch that broadcasts with a's {a}, not {b}")
        result.append(n if m == 1 else m)
    return tuple(result)
