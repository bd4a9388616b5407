"""Rectifier-network passes and initializers with the same bits everywhere."""

from importlib.metadata import version as _version

from . import init, random
from ._info import info
from ._plan import Plan, plan
from ._threads import get_num_threads, register_with_threadpoolctl, set_num_threads
from .activation import (
    prelu,
    prelu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
)
from .conv import conv2d, conv2d_backward_bias, conv2d_backward_input, conv2d_backward_weight
from .dropout import dropout, dropout_backward
from .loss import softmax_cross_entropy, softmax_cross_entropy_backward
from .matmul import matmul, matmul_backward, matmul_backward_bias
from .optimizer import sgd_momentum
from .pooling import (
    max_pool2d,
    max_pool2d_backward,
    spatial_pyramid_pool,
    spatial_pyramid_pool_backward,
)

__all__ = [
    "Plan",
    "conv2d",
    "conv2d_backward_bias",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "dropout",
    "dropout_backward",
    "get_num_threads",
    "info",
    "init",
    "matmul",
    "matmul_backward",
    "matmul_backward_bias",
    "max_pool2d",
    "max_pool2d_backward",
    "plan",
    "prelu",
    "prelu_backward",
    "random",
    "relu",
    "relu_backward",
    "set_num_threads",
    "sgd_momentum",
    "sigmoid",
    "sigmoid_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "spatial_pyramid_pool",
    "spatial_pyramid_pool_backward",
    "tanh",
    "tanh_backward",
]

__version__ = _version("halfwave")

register_with_threadpoolctl()
del register_with_threadpoolctl
