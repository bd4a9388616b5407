"""What `compare.py --device cuda` compares: the cases, and each contestant's call in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import bench_conv
import cupy
import numpy as np
import peers
from peers import Job

import halfwave as hw

CACHE = 128 << 20  # bytes, more than any L2 has
SPECIAL = {"tf32", "bf16"}

try:
    import torch
except ImportError:
    torch = None
if torch and not torch.cuda.is_available():  # built for CPUs alone
    torch = None
tf32: bool | None = None  # what PyTorch was told of it last


@dataclass
class Case:
    """What is compared: contestants' makers of calls, each given the number of a copy."""

    name: str
    kind: str
    unit: str
    work: float
    bounds: dict[str, float]  # flops ("fma") or bytes ("copy", "write") that it needs at least
    bytes: int  # of the arrays of a call
    precision: str = "float32"
    by_clock: bool = False
    contestants: dict[str, Callable[[int], Job]] = field(default_factory=dict)


def array(*shape: int, seed: int = 0) -> cupy.ndarray:
    return cupy.asarray(peers.array(*shape, seed=seed))


def to_torch(x: cupy.ndarray):
    return torch.from_dlpack(x)


def seen(result) -> np.ndarray:
    """A result as a NumPy array of float32."""
    return result.get() if isinstance(result, cupy.ndarray) else result.float().cpu().numpy()


def seen_last(result) -> np.ndarray:
    """The same of N × H × W × C, as N × C × H × W."""
    return seen(result).transpose(0, 3, 1, 2)


def in_precision(precision: str, call: Callable) -> Callable:
    """A call of PyTorch with TF32 on or off: said when it changes, for to say it takes time."""
    allowed = precision == "tf32"

    def run():
        global tf32
        if tf32 is not allowed:
            tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
            torch.backends.cudnn.allow_tf32 = allowed
        return call()

    return run


def chosen(precision: str) -> dict[str, str]:
    return {"precision": precision} if precision in SPECIAL else {}


# ---- the cases -----------------------------------------------------------------------------------


def matmul_cases() -> Iterator[Case]:
    sizes = [(n, n, n) for n in (128, 256, 512, 1024, 2048, 4096, 8192)]
    sizes += [(1, 4096, 4096), (16, 4096, 4096), (4096, 4096, 64), (64, 65536, 64)]
    for precision in ("float32", "tf32", "bf16"):
        for m, k, n in sizes if precision == "float32" else [(4096,) * 3, (8192,) * 3]:
            flops, size = 2 * m * k * n, 4 * (m * k + k * n + m * n)
            square = m == k == n
            kind = (
                f"matrix product, {precision}, 4096³ and 8192³" if precision in SPECIAL
                else "matrix product, 2048³ to 8192³" if square and n >= 2048
                else "matrix product, 128³ to 1024³" if square
                else "matrix product, skinny, narrow or long"
            )  # fmt: skip
            bounds = {"copy": size} | ({} if precision in SPECIAL else {"fma": flops})
            case = Case(f"{m}×{k}×{n} {precision}", kind, "GFLOP/s", flops, bounds, size, precision)
            case.contestants = product_calls(m, k, n, precision)
            yield case


def product_calls(m: int, k: int, n: int, precision: str) -> dict[str, Callable]:
    def operands(copy: int):
        a, b = array(m, k, seed=copy), array(k, n, seed=copy + 1000)
        return a, b, cupy.empty((m, n), cupy.float32)

    def ours(copy: int):
        a, b, out = operands(copy)
        return Job(lambda: hw.matmul(a, b, out=out, **chosen(precision)), seen)

    def cublas(copy: int):
        a, b, out = operands(copy)
        return Job(lambda: cupy.matmul(a, b, out=out), seen)

    def pytorch(copy: int):
        a, b, out = map(to_torch, operands(copy))
        if precision == "bf16":
            a, b, out = (x.to(torch.bfloat16) for x in (a, b, out))
        return Job(in_precision(precision, lambda: torch.matmul(a, b, out=out)), seen)

    calls = {"halfwave": ours}
    if precision == "float32":
        calls["cuBLAS in CuPy"] = cublas
    if torch:
        calls["cuBLAS in PyTorch"] = pytorch
    return calls


def conv_cases(everything: bool) -> Iterator[Case]:
    for layer in bench_conv.CASES.values():
        if layer.network not in ("model A", "ResNet-50", "VGG", "MobileNet") or (
            layer.network == "ResNet-50" and not everything and layer.kernel == 1
        ):
            continue
        layer = layer._replace(n=32)
        for precision in ("float32", "tf32"):
            if precision == "tf32" and (layer.groups > 1 or layer.network == "ResNet-50"):
                continue
            x = 4 * layer.n * layer.channels * layer.size**2
            y = 4 * layer.n * layer.outputs * layer.out**2
            kind = bench_conv.kind(layer)
            bounds = {"copy": x + y}
            if precision == "float32":
                bounds["fma"] = bench_conv.work(layer)
            case = Case(f"{layer.name} {precision}",
                        kind if precision == "float32" else f"tf32: {kind}", "GFLOP/s",
                        bench_conv.work(layer), bounds, x + y, precision)  # fmt: skip
            case.contestants = conv_calls(layer, precision)
            yield case


def conv_calls(layer: bench_conv.Case, precision: str) -> dict[str, Callable]:
    s, p, g = layer.stride, layer.padding, layer.groups

    def operands(layout: str, copy: int):
        x = array(layer.n, layer.channels, layer.size, layer.size, seed=copy)
        w = array(layer.outputs, layer.channels // g, layer.kernel, layer.kernel, seed=1)
        dy = array(layer.n, layer.outputs, layer.out, layer.out, seed=copy + 2000)
        if layout == "NHWC":
            x, dy = (cupy.ascontiguousarray(v.transpose(0, 2, 3, 1)) for v in (x, dy))
        return x, w, dy

    def ours(layout: str) -> Callable:
        def make(copy: int):
            x, w, dy = operands(layout, copy)
            options = {"stride": s, "padding": p, "groups": g, "layout": layout} | chosen(precision)
            view = seen if layout == "NCHW" else seen_last
            if layer.which == "forward":
                out = cupy.empty_like(dy)
                return Job(lambda: hw.conv2d(x, w, out=out, **options), view)
            if layer.which == "input":
                out = cupy.empty_like(x)
                backward = hw.conv2d_backward_input
                return Job(lambda: backward(dy, w, x.shape, out=out, **options), view)
            out = cupy.empty_like(w)
            return Job(lambda: hw.conv2d_backward_weight(dy, x, w.shape, out=out, **options), seen)

        return make

    def cudnn(layout: str) -> Callable:
        def make(copy: int):
            x, w, dy = map(to_torch, operands("NCHW", copy))
            if layout == "NHWC":
                x, w, dy = (v.contiguous(memory_format=torch.channels_last) for v in (x, w, dy))
            if layer.which == "forward":
                forward = in_precision(precision, lambda: torch.conv2d(x, w, None, s, p, 1, g))
                return Job(forward, seen)
            mask = [layer.which == "input", layer.which == "weight", False]
            backward = torch.ops.aten.convolution_backward

            def run():
                made = backward(dy, x, w, None, [s, s], [p, p], [1, 1], False, [0, 0], g, mask)
                return made[mask.index(True)]

            return Job(in_precision(precision, run), seen)

        return make

    layouts = ("NCHW", "NHWC") if precision == "float32" else ("NHWC",)
    calls = {f"halfwave {layout}": ours(layout) for layout in layouts}
    if torch:
        torch.backends.cudnn.benchmark = True
        calls |= {f"cuDNN in PyTorch {layout}": cudnn(layout) for layout in layouts}
    return calls


def activation_cases() -> Iterator[Case]:
    shape = (32, 64, 256, 256)
    size = 4 * int(np.prod(shape))
    for name in ("relu", "relu backward", "prelu", "prelu backward"):
        for layout in ("NCHW", "NHWC") if "prelu" in name else ("NCHW",):
            moved = (3 if "backward" in name else 2) * size
            kind = (
                "PReLU backward" if name == "prelu backward" else "ReLU, its backward pass, PReLU"
            )
            case = Case(
                f"{name} {layout}", f"{kind}, 512 MiB", "GB/s", moved, {"copy": moved}, moved
            )
            case.contestants = activation_calls(name, layout, shape)
            yield case


def activation_calls(name: str, layout: str, shape: tuple[int, ...]) -> dict[str, Callable]:
    axis = 1 if layout == "NCHW" else 3

    def operands():
        x, dy = array(*shape), array(*shape, seed=1)
        if layout == "NHWC":
            x, dy = (cupy.ascontiguousarray(v.transpose(0, 2, 3, 1)) for v in (x, dy))
        return x, dy, cupy.linspace(0.1, 0.5, shape[1], dtype=cupy.float32), cupy.empty_like(x)

    def ours(copy: int):
        x, dy, alpha, out = operands()
        calls = {
            "relu": lambda: hw.relu(x, out=out),
            "relu backward": lambda: hw.relu_backward(dy, x, out=out),
            "prelu": lambda: hw.prelu(x, alpha, axis=axis, out=out),
            "prelu backward": lambda: hw.prelu_backward(dy, x, alpha, axis=axis, out=out)[0],
        }
        return Job(calls[name], seen if layout == "NCHW" else seen_last)

    def pytorch(copy: int):
        x, dy, alpha, out = map(to_torch, operands())
        if layout == "NHWC":
            x, dy = x.permute(0, 3, 1, 2), dy.permute(0, 3, 1, 2)
        slopes = alpha.reshape(1, -1, 1, 1)

        def prelu_backward():
            dx, products = torch.ops.aten._prelu_kernel_backward(dy, x, slopes)
            products.sum((0, 2, 3))
            return dx

        grad_input = torch.ops.aten.threshold_backward.grad_input
        calls = {
            "relu": lambda: torch.clamp_min(x, 0, out=out),
            "relu backward": lambda: grad_input(dy, x, 0, grad_input=out),
            "prelu": lambda: torch.prelu(x, alpha),
            "prelu backward": prelu_backward,
        }
        return Job(calls[name], seen)

    def plain(copy: int):
        x, _, _, out = operands()
        return Job(lambda: cupy.maximum(x, 0, out=out), seen)

    calls = {"halfwave": ours}
    if name == "relu":
        calls["CuPy"] = plain
    if torch:
        calls["PyTorch"] = pytorch
    return calls


def init_cases() -> Iterator[Case]:
    shape = (16384, 16384)
    count = int(np.prod(shape))
    for name in ("normal", "uniform"):
        case = Case(name, f"{name} weights, 1 GiB", "10⁹ values/s", count, {"write": 4 * count},
                    4 * count)  # fmt: skip
        out = lambda: cupy.empty(shape, cupy.float32)  # noqa: E731

        def ours(copy: int, name=name, out=out):
            kept, draw = out(), getattr(hw.init, name)
            return Job(lambda: draw(shape, seed=1, device="cuda", out=kept), seen)

        def philox(copy: int, name=name, out=out):  # curand's own, without CuPy's passes around it
            from cupy.cuda import curand

            kept = out()
            generator = curand.createGenerator(curand.CURAND_RNG_PSEUDO_PHILOX4_32_10)
            numbers = generator, kept.data.ptr, count

            def run():
                if name == "normal":
                    curand.generateNormal(*numbers, 0.0, 1.0)
                else:
                    curand.generateUniform(*numbers)
                return kept

            return Job(run, seen)

        def pytorch(copy: int, name=name):
            kept = torch.empty(shape, device="cuda")
            return Job(kept.normal_ if name == "normal" else kept.uniform_, seen)

        case.contestants = {"halfwave": ours, "curand": philox}
        if torch:
            case.contestants["PyTorch"] = pytorch
        yield case


def overhead_cases() -> Iterator[Case]:
    x = array(8)
    out, a, b = cupy.empty_like(x), array(4, 4), array(4, 4, seed=1)
    kept = cupy.empty_like(a)
    calls = {
        "relu of 8 floats": {
            "halfwave": lambda: hw.relu(x, out=out), "CuPy": lambda: cupy.maximum(x, 0, out=out),
        },
        "product of 4×4 matrices": {
            "halfwave": lambda: hw.matmul(a, b, out=kept),
            "cuBLAS in CuPy": lambda: cupy.matmul(a, b, out=kept),
        },
    }  # fmt: skip
    if torch:
        there, ta, tb = to_torch(x), to_torch(a), to_torch(b)
        calls["relu of 8 floats"]["PyTorch"] = lambda: torch.relu(there)
        calls["product of 4×4 matrices"]["cuBLAS in PyTorch"] = lambda: torch.mm(ta, tb)
    for name, contestants in calls.items():
        case = Case(name, "a call on 8 floats" if "relu" in name else "", "µs", 1, {}, CACHE,
                    by_clock=True)  # fmt: skip
        case.contestants = {
            who: (lambda copy, call=call: Job(call, seen)) for who, call in contestants.items()
        }
        yield case


def cases(suite: str, everything: bool) -> Iterator[Case]:
    if suite == "conv":
        return conv_cases(everything)
    return {"matmul": matmul_cases, "activation": activation_cases, "init": init_cases,
            "overhead": overhead_cases}[suite]()  # fmt: skip
