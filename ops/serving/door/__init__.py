"""The front door: a small process before Triton's HTTP and metrics ports, which 2.51 does not guard against bodies."""
