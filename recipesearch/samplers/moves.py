"""Candidates near good merges, and anywhere: steps that mean something in merge coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..recipe.methods import METHODS
from ..space.coordinates import IDLE, Coordinates, CoordinateSystem

Array = NDArray[np.float64]
Kind = tuple[str, str | None]

_KIND_CHANGES = 0.1  # of the steps
_EXTRA_STEP, _EXTRA_CHANGES = 0.2, 0.3
_MOST = 1.5  # the largest coefficient of a task vector that is drawn at random


@dataclass(frozen=True)
class Moves:
    """Draws canonical points with one generator."""

    system: CoordinateSystem
    chance: np.random.Generator

    def corner(self, kind: Kind) -> Coordinates:
        """Each place from one parent alone. The best merges are often near such corners."""
        columns = self.chance.integers(len(self.system.names), size=len(self.system.places))
        return self._finish(kind, np.eye(len(self.system.names))[columns], self._anywhere())

    def anywhere(self, kind: Kind) -> Coordinates:
        """A random point: shares that agree between places more or less, or not at all."""
        chance, shape = self.chance, (len(self.system.places), len(self.system.names))
        most = 1.0 if METHODS[kind[0]].normalised else _MOST
        if chance.random() < 0.7:
            spread = chance.choice([0.0, 0.2, 0.5])
            shares = most * chance.uniform(size=shape[1]) + chance.normal(0.0, spread, shape)
        else:
            shares = chance.uniform(0.0, most, shape)
        return self._finish(kind, self._affine(shares), self._anywhere())

    def near(self, points: Sequence[Coordinates], kind: Kind | None = None) -> Coordinates:
        """A step from one of the points, or between two of them; of ``kind``, or mostly of its own kind."""
        chance = self.chance
        point, other = (points[int(chance.integers(len(points)))] for _ in range(2))
        shares = self._step(point.shares, other.shares)
        if kind is None:
            change = point.kind not in self.system.kinds or chance.random() < _KIND_CHANGES
            kind = self._any_kind() if change else point.kind
        extras = np.where(point.extras == IDLE, other.extras, point.extras)
        steps = chance.normal(0.0, _EXTRA_STEP, len(extras)) * (chance.random(len(extras)) < _EXTRA_CHANGES)
        return self._finish(kind, shares, extras + steps)

    def _step(self, shares: Array, other: Array) -> Array:
        chance, places = self.chance, len(shares)
        roll = chance.random()
        if roll < 0.25:  # everywhere
            spread = chance.choice([0.03, 0.08, 0.16, 0.3])
            return self._affine(shares + chance.normal(0.0, spread, shares.shape))
        if roll < 0.5:  # at one or two places
            rows = chance.choice(places, min(places, int(chance.integers(1, 3))), replace=False)
            steps = np.zeros(shares.shape)
            steps[rows] = chance.normal(0.0, chance.choice([0.15, 0.4]), (len(rows), shares.shape[1]))
            return self._affine(shares + steps)
        if roll < 0.6:  # some parents everywhere
            return self._affine(shares + chance.normal(0.0, 0.15, shares.shape[1]))
        if roll < 0.65:  # one place anew
            found = shares.copy()
            found[chance.integers(places)] = self._affine(chance.uniform(0.0, 1.2, (1, shares.shape[1])))[0]
            return found
        if roll < 0.85:  # on the line through both points
            found = shares + chance.uniform(-0.4, 1.4) * (other - shares)
        else:  # each place from one of them
            found = np.where(chance.random((places, 1)) < 0.5, shares, other)
        return self._affine(found + chance.normal(0.0, chance.choice([0.0, 0.05]), shares.shape))

    def _affine(self, shares: Array) -> Array:
        """Shares that sum to 1 at each place, by the donor's share, if all methods' shares do."""
        if not self.system.affine:
            return shares
        found, donor = shares.copy(), self.system.donor
        found[:, donor] += 1.0 - found.sum(axis=1)
        return found

    def _anywhere(self) -> Array:
        return self.chance.uniform(size=len(self.system.extras))

    def _any_kind(self) -> Kind:
        return self.system.kinds[self.chance.integers(len(self.system.kinds))]

    def _finish(self, kind: Kind, shares: Array, extras: Array) -> Coordinates:
        return self.system.canonical(Coordinates(kind[0], kind[1], shares, extras))


def features(system: CoordinateSystem, points: Sequence[Coordinates]) -> Array:
    """The points' numbers, shape (points, coordinates). The donor's shares are left out where implied."""
    kept = [c for c in range(len(system.names)) if not (system.affine and c == system.donor)]
    rows = [np.concatenate([point.shares[:, kept].ravel(), point.extras]) for point in points]
    return np.array(rows)
