"""Stochastic gradient descent as the paper has it, and its plateaus."""

from __future__ import annotations

from collections.abc import Iterable

import halfwave as hw

from .layers import Parameter


class SGD:
    """Stochastic gradient descent with momentum: v = momentum v + rate (g + decay w), w = w - v.

    Weight decay applies to the parameters that have it: all but PReLU's slopes.

    Parameters
    ----------
    parameters : iterable of Parameter
        What to train.
    learning_rate, momentum, weight_decay : float
        The paper's are 1e-2 (then 1e-3 and 1e-4 on plateaus), 0.9 and 5e-4.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        *,
        learning_rate: float = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        self.parameters = list(parameters)
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay

    def step(self) -> None:
        """Moves every parameter by its gradient."""
        for p in self.parameters:
            hw.sgd_momentum(
                p.value,
                p.gradient,
                p.velocity,
                learning_rate=self.learning_rate,
                momentum=self.momentum,
                weight_decay=self.weight_decay if p.decay else 0.0,
            )


class Plateau:
    """Divides the learning rate by ten when the error has not fallen for `patience` looks.

    Parameters
    ----------
    optimizer : SGD
        Whose `learning_rate` is divided.
    patience : int
        How many looks without a new lowest error are borne.
    minimum : float
        The rate is not divided further once at or below it.
    """

    def __init__(self, optimizer: SGD, *, patience: int = 3, minimum: float = 1e-4) -> None:
        self.optimizer = optimizer
        self.patience = patience
        self.minimum = minimum
        self.best = float("inf")
        self.waited = 0

    def look(self, error: float) -> bool:
        """Takes note of an error; True if the learning rate was divided."""
        if error < self.best:
            self.best, self.waited = error, 0
            return False
        self.waited += 1
        if self.waited < self.patience or self.optimizer.learning_rate <= self.minimum:
            return False
        self.optimizer.learning_rate /= 10
        self.waited = 0
        return True
