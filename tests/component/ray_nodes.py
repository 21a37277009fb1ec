"""`python -m tests.component.ray_nodes WORKERS`: a Ray cluster of this machine, until its standard input is closed.

The first line that it says is the address. It is a program of its own, and all that Ray started ends with it.
"""

import os
import sys

_STORE_BYTES = 80_000_000

if __name__ == "__main__":
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_metrics_collection": "0"}
    from ray.cluster_utils import Cluster

    node = {"num_cpus": int(sys.argv[1]), "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    print(f"address {Cluster(initialize_head=True, head_node_args=node).address}", flush=True)
    sys.stdin.read()
    os._exit(0)  # what Ray does at an exit takes seconds
