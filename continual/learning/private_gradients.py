"""A linear head on bounded features, trained by gradients with noise (DP-SGD) of the package `opacus`."""

import math
import secrets
import warnings
from typing import Any

import numpy as np

from perennial.continual.errors import DependencyUnreachable
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.head import HeadWeights
from perennial.continual.learning.kernel_lda import KernelLda
from perennial.continual.privacy.noise import Privacy, longest_row

__all__ = ["STEPS", "head_by_gradients"]

STEPS = 100
_RATE, _MOMENTUM, _CLIP = 4.0, 0.9, 1.0
_KEPT = 0.9  # of the mean of the last steps, which is what answers
_AT_ONCE = 4096  # rows whose gradients are in memory together


def head_by_gradients(sums: KernelLda, rows: ClassRows, privacy: Privacy, *, steps: int = STEPS) -> HeadWeights:
    """A softmax head of all rows at once: each row's gradient is cut to length 1, and noise is added to their sum.

    Every step sees every row, so that all steps together are one Gaussian mechanism, which is accounted exactly. Steps,
    rate and momentum are fixed: no row chooses them.

    Source: Abadi et al. 2016, "Deep Learning with Differential Privacy"; the means of weights are those of Polyak.

    Args:
        sums: whose features and classes the head has.
        rows: all that are to be learnt.
        privacy: of all steps together.
        steps: of the optimiser.

    Raises:
        DependencyUnreachable: opacus is not installed.
    """
    import torch

    labels, longest = sums.labels, longest_row(sums)
    place = {label: number for number, label in enumerate(labels)}
    X = torch.from_numpy((sums.features(rows.X) / longest).astype(np.float32))  # about length 1
    y = torch.tensor([place[label] for label in rows.labels])
    layer = torch.nn.Linear(X.shape[1], len(labels))
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    module, optimiser = _made_private(layer, len(X), privacy.multiplier * math.sqrt(steps))
    means = [torch.zeros_like(weight) for weight in layer.parameters()]
    pieces = [slice(start, start + _AT_ONCE) for start in range(0, len(X), _AT_ONCE)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")  # rows need no gradient of their own
        for _ in range(steps):
            for piece in pieces:
                optimiser.zero_grad()
                optimiser.signal_skip_step(do_skip=piece is not pieces[-1])  # added up until the last piece
                loss: Any = torch.nn.functional.cross_entropy(module(X[piece]), y[piece])
                loss.backward()
                optimiser.step()
            with torch.no_grad():
                for mean, weight in zip(means, layer.parameters(), strict=True):
                    mean.mul_(_KEPT).add_(weight, alpha=1.0 - _KEPT)
    found = [mean.detach().numpy() for mean in means]
    return HeadWeights(
        labels=labels,
        omega=sums.features.omega,
        phase=sums.features.phase,
        weight=(found[0] / longest).astype(np.float32),
        bias=found[1].astype(np.float32),
        temperature=1.0,
    )


def _made_private(layer: Any, rows: int, multiplier: float) -> tuple[Any, Any]:
    """The layer with a gradient for each row, and an optimiser that cuts and noises them; see `opacus`."""
    import torch

    try:
        with warnings.catch_warnings():  # of parts of it that nobody uses here
            warnings.simplefilter("ignore")
            from opacus import GradSampleModule
            from opacus.optimizers import DPOptimizer
    except ImportError as error:
        raise DependencyUnreachable(
            "privacy by gradients needs opacus; pip install 'perennial-serving[privacy]', or set by = \"sums\""
        ) from error
    source = torch.Generator()
    source.manual_seed(secrets.randbits(63))
    optimiser = DPOptimizer(
        torch.optim.SGD(layer.parameters(), lr=_RATE, momentum=_MOMENTUM),
        noise_multiplier=multiplier,
        max_grad_norm=_CLIP,
        expected_batch_size=rows,
        generator=source,
    )
    return GradSampleModule(layer), optimiser
