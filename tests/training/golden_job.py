"""What one process of a ``torchrun`` does for ``test_golden_paths.py``: golden files, each batch shared by all."""

import json
import sys
from dataclasses import astuple, replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch

from raddino.ssl import Views
from raddino.training import verify
from raddino.training.blocks import recompute_blocks
from raddino.training.parallel import DataParallel, ShardedParallel, together, whole
from raddino.vit import VisionTransformer

WAYS = {
    "shared batch": (DataParallel, lambda task: None),
    "sharded": (ShardedParallel, lambda task: None),
    "sharded and recomputed": (ShardedParallel, recompute_blocks),
}


def replay(file, precision, parallel, change):
    """The checks of ``verify``, whose step is that of one rank on its share of every batch."""
    real, built = SimpleNamespace(**vars(verify)), []

    def build(*arguments):
        built.append(real._build(*arguments))
        change(built[-1])
        return built[-1]

    def build_optimizer(student, config):
        optimizer = real.build_optimizer(student, config)
        parallel.shard(built[-1], optimizer)
        return optimizer

    def compute_gradients(task, *rest):
        outcome = real.compute_gradients(task, *rest)
        return replace(outcome, terms=parallel.average(task.student, outcome.terms))

    def apply_gradients(*arguments):
        return {part: whole(norm) for part, norm in real.apply_gradients(*arguments).items()}

    def features(checks, task, tensors, device, dtype):
        alone = VisionTransformer(task.student.backbone.config).to(dtype)
        alone.load_state_dict({name: whole(part) for name, part in task.student.backbone.state_dict().items()})
        real._features(checks, SimpleNamespace(student=SimpleNamespace(backbone=alone)), tensors, device, dtype)

    def compare(self, quantity, got, *rest, tensor=verify._Checks.tensor):
        tensor(self, quantity, whole(got), *rest)

    with (
        mock.patch.multiple(
            verify, _build=build, build_optimizer=build_optimizer, compute_gradients=compute_gradients,
            apply_gradients=apply_gradients, _features=features,
            _views=lambda *arguments: share(real._views(*arguments), parallel),
        ),
        mock.patch.object(verify._Checks, "tensor", compare),
    ):  # fmt: skip
        return verify.verify(file, precision)


def share(views, parallel):
    """This rank's part of the images, of each kind of view."""
    images = len(views.global_crops) // 2
    own = slice(parallel.rank * images // parallel.size, (parallel.rank + 1) * images // parallel.size)
    parts = (views.global_crops, views.local_crops, views.masks)
    return Views.build(*(part.unflatten(0, (-1, images))[:, own].flatten(0, 1) for part in parts))


def main(out, *files):
    """Every file on each way in both precisions; what came of it in a file of each rank."""
    with together(on_gpu=False) as parallel:
        found = {}
        for file in map(Path, files):
            for way, (kind, change) in WAYS.items():
                for precision in ("float64", "float32"):
                    checks = replay(file, precision, kind(parallel.rank, parallel.size, parallel.here), change)
                    found[f"{file.stem}, {way}, {precision}"] = [astuple(check) for check in checks]
        (Path(out) / f"{parallel.rank}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
