"""How often someone may ask: one bucket of permits each, filled at a steady rate."""

from __future__ import annotations

import time
from collections import OrderedDict

MOST = 10_000  # buckets in memory; the one unused for longest is forgotten for one more


class Rates:
    """Permits by key."""

    def __init__(self, per_second: float, burst: float) -> None:
        """Each key gets `per_second` permits on average, and `burst` at once."""
        self._per_second = per_second
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # permits left, when they were counted

    def allows(self, key: str) -> bool:
        """Takes a permit, if one is left."""
        left = self._left(key)
        self._put(key, left - 1 if left >= 1 else left)
        return left >= 1

    def is_spent(self, key: str) -> bool:
        """Whether none is left, without taking one."""
        return self._left(key) < 1

    def seconds_until_next(self, key: str) -> int:
        """Until `allows` would say yes again, at least one."""
        return max(1, round((1 - self._left(key)) / self._per_second + 0.5))

    def _left(self, key: str) -> float:
        left, counted = self._buckets.get(key, (self._burst, time.monotonic()))
        return min(self._burst, left + (time.monotonic() - counted) * self._per_second)

    def _put(self, key: str, left: float) -> None:
        self._buckets[key] = (left, time.monotonic())
        self._buckets.move_to_end(key)
        while len(self._buckets) > MOST:
            self._buckets.popitem(last=False)
