"""Other servers, each as one of its own users would write it; `benchmarks/serving_rivals.py` says how they are run."""
