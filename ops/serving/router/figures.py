"""The router's figures on Triton's metrics port; nothing that goes wrong here is ever an answer's affair."""

import logging
from collections.abc import Mapping
from typing import Any

__all__ = ["TritonFigures"]

logger = logging.getLogger(__name__)


class TritonFigures:
    """Counters and gauges by name. No method raises.

    Triton 2.51 frees a family with its last reference, and a metric of a freed one ends the process. So the families
    are kept as long as their metrics. To be used by one thread at a time.

    Args:
        triton: the module `triton_python_backend_utils`.
        counters: what each figure that only grows means, by name.
        gauges: the same of those that rise and fall.
        labels: of every metric.
    """

    def __init__(
        self, triton: Any, *, counters: Mapping[str, str], gauges: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        self._families: list[Any] = []
        self._metrics: dict[str, Any] = {}
        self._published: dict[str, float] = dict.fromkeys(counters, 0.0)
        for kind, described in (("COUNTER", counters), ("GAUGE", gauges)):
            for name, description in described.items():
                self._make(triton, kind, name, description, dict(labels))

    def publish(self, figures: Mapping[str, float]) -> None:
        """Publish the values of now; a counter's is its total."""
        for name, value in figures.items():
            try:
                self._publish(name, value)
            except Exception:
                self._metrics.pop(name, None)
                logger.exception("metric.failed", extra={"metric": name})

    def _make(self, triton: Any, kind: str, name: str, description: str, labels: dict[str, str]) -> None:
        try:
            family = triton.MetricFamily(name=name, description=description, kind=getattr(triton.MetricFamily, kind))
            self._metrics[name] = family.Metric(labels=labels)
        except Exception:
            logger.exception("metric.not_made", extra={"metric": name})
        else:
            self._families.append(family)

    def _publish(self, name: str, value: float) -> None:
        if (metric := self._metrics.get(name)) is None:
            return
        if (before := self._published.get(name)) is None:
            metric.set(value)
        elif value > before:
            metric.increment(value - before)
            self._published[name] = value
