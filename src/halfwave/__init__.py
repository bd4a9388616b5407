"""Rectifier-network passes and initializers with the same bits everywhere."""

from importlib.metadata import version as _version

from . import init, random
from ._plan import Plan, plan
from ._threads import get_num_threads, register_with_threadpoolctl, set_num_threads
from .activation import prelu, prelu_backward, relu, relu_backward
from .conv import conv2d, conv2d_backward_bias, conv2d_backward_input, conv2d_backward_weight
from .matmul import matmul, matmul_backward, matmul_backward_bias

__all__ = [
    "Plan",
    "conv2d",
    "conv2d_backward_bias",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "get_num_threads",
    "init",
    "matmul",
    "matmul_backward",
    "matmul_backward_bias",
    "plan",
    "prelu",
    "prelu_backward",
    "random",
    "relu",
    "relu_backward",
    "set_num_threads",
]

__version__ = _version("halfwave")

register_with_threadpoolctl()
del register_with_threadpoolctl
