"""The environment in which jobs run."""

import os

__all__ = ["job_environment"]


def job_environment() -> dict[str, str]:
    """This process's own, with tokenizers that have no threads and a model hub that is not asked unless told so."""
    return {
        **os.environ,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1"),
    }
