"""Activation checkpointing: memory for time, with the same results."""

from functools import partial

from torch.utils.checkpoint import checkpoint

from raddino.ssl import SelfDistillation


def recompute_blocks(task: SelfDistillation) -> None:
    """Let the student's blocks keep their inputs alone, and be computed again when gradients go back through them."""
    for block in task.student.backbone.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
