"""Pre-train on a Ray cluster: one ``torchrun`` on each of its machines, one process a GPU.

    ray job submit -- python launch/ray_job.py --nodes 2 --gpus 8 corpus/ --preset dinov2-vit-b --out run/

Words that it does not know go to ``raddino pretrain``. Corpus and run folder lie where all machines see them.
"""

import argparse
import socket
import subprocess
import sys

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy


@ray.remote(max_retries=0)
def address() -> tuple[str, int]:
    """This machine's address, and a port of it that is free."""
    with socket.socket() as free:
        free.bind(("", 0))
        return ray.util.get_node_ip_address(), free.getsockname()[1]


@ray.remote(max_retries=0)
def node(rank: int, nodes: int, processes: int, master: tuple[str, int], words: list[str]) -> int:
    """Exit status of one machine's part."""
    return subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", f"--nnodes={nodes}", f"--node-rank={rank}",
            f"--nproc-per-node={processes}", f"--master-addr={master[0]}", f"--master-port={master[1]}",
            "--shutdown-timeout=240", "-m", "raddino", "pretrain", *words,
        ]
    ).returncode  # fmt: skip


def main() -> int:
    """The largest exit status of the machines."""
    options = argparse.ArgumentParser(description="raddino pretrain on a Ray cluster", allow_abbrev=False)
    options.add_argument("--nodes", type=int, required=True, help="machines")
    options.add_argument("--gpus", type=int, default=0, help="of each machine; one process each")
    options.add_argument("--processes", type=int, help="of each machine, where they have no GPU")
    given, words = options.parse_known_args()
    bundle = {"CPU": 1, "GPU": given.gpus} if given.gpus else {"CPU": 1}
    group = placement_group([bundle] * given.nodes, strategy="STRICT_SPREAD")
    ray.get(group.ready())

    def on(rank: int) -> dict:
        return {
            "num_cpus": 1,
            "num_gpus": given.gpus,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
        }

    master = ray.get(address.options(**on(0)).remote())
    processes = given.processes or given.gpus or 1
    parts = [
        node.options(**on(rank)).remote(rank, given.nodes, processes, master, words) for rank in range(given.nodes)
    ]
    return max(map(abs, ray.get(parts)))


if __name__ == "__main__":
    sys.exit(main())
