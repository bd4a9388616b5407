"""Layers and the optimizer: thin plain Python over the operations, as much as the paper's nets need."""

from .layers import (
    Conv2d,
    Dropout,
    Flatten,
    Initializer,
    Layer,
    Linear,
    MaxPool2d,
    Parameter,
    PReLU,
    ReLU,
    Sequential,
    Sigmoid,
    SpatialPyramidPool,
    Tanh,
    activation,
)
from .optimizers import SGD, Plateau

__all__ = [
    "SGD",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Initializer",
    "Layer",
    "Linear",
    "MaxPool2d",
    "PReLU",
    "Parameter",
    "Plateau",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "SpatialPyramidPool",
    "Tanh",
    "activation",
]
