"""Two-sample statistics, one a file: pure, with a p-value for existence and an effect for relevance."""

from perennial.continual.drift.statistics.chi_square import chi_square
from perennial.continual.drift.statistics.classifier_auc import classifier_auc
from perennial.continual.drift.statistics.jensen_shannon import jensen_shannon
from perennial.continual.drift.statistics.ks import ks
from perennial.continual.drift.statistics.result import StatisticResult
from perennial.continual.drift.statistics.rff_mmd import rff_mmd
from perennial.continual.drift.statistics.share_shift import share_shift
from perennial.continual.drift.statistics.wasserstein import wasserstein

__all__ = [
    "StatisticResult",
    "chi_square",
    "classifier_auc",
    "jensen_shannon",
    "ks",
    "rff_mmd",
    "share_shift",
    "wasserstein",
]
