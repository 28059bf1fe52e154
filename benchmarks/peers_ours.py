"""Our side of ``benchmarks/peers.py``: the loader, the views and the step of ``raddino pretrain``."""

import json
import sys

import numpy as np
import torch
from pretrain_step import prepared
from torch.utils.flop_counter import FlopCounterMode
from turns import Turns

from raddino.config import load_config
from raddino.corpus.dataset import Corpus
from raddino.heap import kept_pages
from raddino.ssl import Views
from raddino.training.loader import Collate, Positions, Rendered, Samples, make_loader, make_views, reading
from raddino.training.pretrain import PretrainConfig
from raddino.training.step import train_step
from raddino.views import Multicrop

ENDLESS = 10**6


def main() -> None:
    """Train as the JSON on the command line says for as long as turns are given."""
    given = json.loads(sys.argv[1])
    config = load_config(PretrainConfig, given["preset"], given["set"])
    device, workers, batch = torch.device(given["device"]), given["workers"], config.batch_size
    on_gpu = device.type == "cuda"
    corpus, multicrop = Corpus.open(given["corpus"]), Multicrop(config.views)
    task, optimizer, values, _ = prepared(config, device)
    samples = Samples(corpus, np.arange(len(corpus)), config.views, config.seed)
    grid = (config.views.global_size // config.vit.patch_size,) * 2
    collate = Collate(config.views, config.seed, batch, grid, masked=config.ssl.ibot_weight > 0)
    loader = make_loader(samples, collate, Positions(batch, 0, ENDLESS), workers, pin=on_gpu)

    def step(views: Views) -> None:
        train_step(task, optimizer, [views], 1, values, config.optim.clip_grad, given["precision"])

    with kept_pages(), reading(loader) as batches:
        stream = Rendered(batches, lambda one: make_views(one, multicrop, device), device)
        with FlopCounterMode(display=False) as counter:
            step(next(stream))
        facts = {"torch": torch.__version__, "flops": counter.get_total_flops() / batch}
        turns = Turns(facts, torch.cuda.synchronize if on_gpu else lambda: None)
        while True:
            turns.fetching()
            if workers:  # as LightlyTrain's side: a step lasts from batch to batch, data and all
                turns.stepping()
            views = next(stream)
            if not workers:
                turns.stepping()
            step(views)


if __name__ == "__main__":
    main()
