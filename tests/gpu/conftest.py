"""What every GPU test needs: a GPU (its absence is a failure, never a skip), a model, and a place for the figures.

`PERENNIAL_GPU_BUILT` names a folder that keeps what was built, so that single tests can run in processes of their own.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import record
from tests.gpu.contenders import Workshop
from tests.gpu.model import DEVICE, Classifier, Sample, load_classifier, load_sample

FIGURES: dict[str, Any] = {}


@pytest.fixture(scope="session")
def gpu() -> dict[str, str]:
    """The GPU's name, compute capability and CUDA version."""
    import torch

    if not torch.cuda.is_available():
        pytest.fail(
            "tests/gpu need an NVIDIA GPU that torch can see, and there is none here: run `make test-gpu` on a machine "
            "with one and with torch's CUDA build installed",
            pytrace=False,
        )
    major, minor = torch.cuda.get_device_capability()
    return {
        "gpu": torch.cuda.get_device_name(),
        "capability": f"{major}.{minor}",
        "cuda": str(torch.version.cuda),
        "torch": torch.__version__,
    }


@pytest.fixture(scope="session")
def classifier(gpu: dict[str, str]) -> Classifier:
    """MiniLM with a head of 77 classes, eager, on the GPU."""
    return load_classifier(DEVICE)


@pytest.fixture(scope="session")
def sample(classifier: Classifier) -> Sample:
    """Generated texts of real lengths, as token rows, and what the eager FP32 model answers."""
    return load_sample(classifier)


@pytest.fixture(scope="session")
def workshop(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Every engine by name, built when it is first asked for."""
    kept = os.environ.get("PERENNIAL_GPU_BUILT")
    return Workshop(folder=Path(kept) if kept else tmp_path_factory.mktemp("built"), classifier=classifier)


@pytest.fixture(scope="session")
def figures(gpu: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Figures by name; written to `benchmarks/out/gpu.json` when the last test has ended."""
    FIGURES["gpu"] = gpu
    yield FIGURES
    record.write("gpu", FIGURES)
