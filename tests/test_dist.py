"""Collectives: nothing alone, and sum, maximum and mean over two ranks of gloo."""

import multiprocessing

import torch
import torch.distributed as dist

from raddino.dist import all_max, all_mean, all_sum, world_size


def test_alone_they_change_nothing():
    value = torch.tensor([1.5, -2.0])
    assert world_size() == 1
    for collective in (all_sum, all_max, all_mean):
        assert collective(value) is value
        assert value.tolist() == [1.5, -2.0]


def one_rank(rank, store, answers):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    values = [torch.tensor([1.0 + rank, -4.0 * rank]) for _ in range(3)]
    found = [collective(value) for collective, value in zip((all_sum, all_max, all_mean), values, strict=True)]
    assert all(a is b for a, b in zip(found, values, strict=True)), "in place"
    answers.put((world_size(), [value.tolist() for value in found]))
    dist.destroy_process_group()


def test_over_two_ranks(tmp_path):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    ranks = [context.Process(target=one_rank, args=(rank, tmp_path / "store", answers)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    found = [answers.get(timeout=300) for _ in ranks]
    for rank in ranks:
        rank.join()
    assert found == [(2, [[3, -4], [2, 0], [1.5, -2]])] * 2
