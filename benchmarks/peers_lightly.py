"""LightlyTrain's side of ``benchmarks/peers.py``, which starts it in LightlyTrain's own environment.

It calls the public ``lightly_train.pretrain`` with documented arguments. The clock is read where PyTorch's DataLoader
asks for a batch's images (the step before has ended), and where Lightning's strategy, an argument, is given the batch.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import lightly_train
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch.utils.data import BatchSampler
from turns import Turns

OFF = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")


def main() -> None:
    """Train as the JSON on the command line says for as long as turns are given."""
    given = json.loads(sys.argv[1])
    workers, on_gpu = given["num_workers"], given["accelerator"] == "gpu"
    facts = {"torch": torch.__version__, "version": version("lightly-train")}
    turns = Turns(facts, torch.cuda.synchronize if on_gpu else lambda: None)

    def asked(sampler: BatchSampler, asking: Any = BatchSampler.__iter__) -> Iterator[list[int]]:
        for batch in asking(sampler):
            turns.fetching()
            yield batch

    class Clocked(SingleDeviceStrategy):
        """With workers, images are asked for ahead of their step: it then lasts from batch to batch, data and all."""

        def batch_to_device(self, *args: Any, **options: Any) -> Any:
            if workers:
                turns.fetching()
            turns.stepping()
            return super().batch_to_device(*args, **options)

    if not workers:
        BatchSampler.__iter__ = asked
    with tempfile.TemporaryDirectory() as out:
        lightly_train.pretrain(
            out=f"{out}/run", **given, loggers={"jsonl": None, "tensorboard": None},
            strategy=Clocked("cuda:0" if on_gpu else "cpu"), trainer_args={"callbacks": []} | dict.fromkeys(OFF, False),
        )  # fmt: skip


if __name__ == "__main__":
    main()
