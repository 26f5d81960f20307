"""A Gaussian process over parameters in the unit cube, without random numbers: equal data, equal model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST_FITTED = 100  # points that the length scales are fitted to: a fit takes milliseconds
SWEEPS = 2  # of the coordinate search for length scales
STEPS = (0.4, 2.5)  # factors that it tries for each of them
SCALES, NOISES = (0.05, 20.0), (0.02, 0.5)  # the bounds
Array = np.ndarray


class GaussianProcess:
    """A Matern 5/2 kernel with a length scale for each parameter, and noise; the mean is 0.

    `owners` names the parameter of each column, because a choice has several columns. Length scales maximize the
    likelihood of at most 100 of the points.
    """

    def __init__(self, points: Array, values: Array, owners: Sequence[int]) -> None:
        self.owners = np.asarray(owners)
        self.scales, self.noise = np.full(max(owners, default=-1) + 1, 0.5), 0.1
        order = np.argsort(values, kind="stable")
        chosen = order[np.linspace(0, len(order) - 1, min(len(order), MOST_FITTED)).round().astype(int)]
        self.fit(points[chosen], values[chosen])
        self.condition(points, values)
        self.variance = max(float(values @ self.weights) / len(values), 1e-6)

    def condition(self, points: Array, values: Array) -> None:
        """Learn values at points, which replace earlier ones; the length scales stay."""
        self.inverse = np.linalg.inv(self.covariance(points, self.scales, self.noise))
        self.points, self.values, self.weights = points, values, self.inverse @ values

    def believe(self, points: Array) -> None:
        """Learn at these points what the model predicts there: it becomes surer, and no other value changes."""
        if len(points):
            means, _ = self.predict(points)
            self.condition(np.concatenate([self.points, points]), np.concatenate([self.values, means]))

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Return the means and the standard deviations at these points."""
        between = self.kernel(points, self.points, self.scales)
        known = np.einsum("ij,ij->i", between @ self.inverse, between)
        return between @ self.weights, np.sqrt(self.variance * np.maximum(1 - known, 1e-6))

    def kernel(self, left: Array, right: Array, scales: Array) -> Array:
        """Return the correlations between two lists of points."""
        left, right = left / scales[self.owners], right / scales[self.owners]
        squares = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2 * left @ right.T
        distance = np.sqrt(5 * np.maximum(squares, 0))
        correlations: Array = (1 + distance + distance**2 / 3) * np.exp(-distance)
        return correlations

    def covariance(self, points: Array, scales: Array, noise: float) -> Array:
        """Return the correlations of noisy values at points."""
        return self.kernel(points, points, scales) + noise * np.eye(len(points))

    def fit(self, points: Array, values: Array) -> None:
        """Search the length scales and the noise, one after the other."""
        best = self.loss(points, values, self.scales, self.noise)
        for _ in range(SWEEPS):
            for index in range(len(self.scales) + 1):
                for step in STEPS:
                    scales, noise = self.scales.copy(), self.noise
                    if index < len(scales):
                        scales[index] = np.clip(scales[index] * step, *SCALES)
                    else:
                        noise = float(np.clip(noise * step, *NOISES))
                    loss = self.loss(points, values, scales, noise)
                    if loss < best:
                        best, self.scales, self.noise = loss, scales, noise

    def loss(self, points: Array, values: Array, scales: Array, noise: float) -> float:
        """Return the negative log likelihood, and what length scales far from 0.5 cost."""
        root = np.linalg.cholesky(self.covariance(points, scales, noise))
        whitened = np.linalg.solve(root, values)
        fitted = len(values) / 2 * np.log(max(float(whitened @ whitened) / len(values), 1e-9))
        return float(fitted + np.log(np.diag(root)).sum() + 0.25 * (np.log(scales / 0.5) ** 2).sum())
