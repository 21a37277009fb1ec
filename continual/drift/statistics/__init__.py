"""Two-sample statistics, one a file: pure, with a p-value for existence and an effect for relevance."""

from continual.drift.statistics.chi_square import chi_square
from continual.drift.statistics.classifier_auc import classifier_auc
from continual.drift.statistics.jensen_shannon import jensen_shannon
from continual.drift.statistics.ks import ks
from continual.drift.statistics.result import StatisticResult
from continual.drift.statistics.rff_mmd import rff_mmd
from continual.drift.statistics.wasserstein import wasserstein

__all__ = [
    "StatisticResult",
    "chi_square",
    "classifier_auc",
    "jensen_shannon",
    "ks",
    "rff_mmd",
    "wasserstein",
]
