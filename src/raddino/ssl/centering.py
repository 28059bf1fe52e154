"""How the teacher's logits become targets that cannot all agree: softmax centering or Sinkhorn-Knopp."""

import torch
from torch import Tensor, nn

from raddino.dist import all_mean, all_sum, world_size


class SoftmaxCentering(nn.Module):
    """Softmax of ``(logits - centre) / temperature``; the centre is a moving mean of earlier steps' logits."""

    center: Tensor

    def __init__(self, prototypes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(1, prototypes))

    @torch.no_grad()
    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Targets (B, K) from logits (B, K); afterwards this batch moves the centre, for the next call."""
        targets = ((logits - self.center) / temperature).softmax(-1)
        mean = all_mean(logits.mean(0, keepdim=True))
        self.center.lerp_(mean.to(self.center.dtype), 1 - self.momentum)
        return targets


class SinkhornKnopp(nn.Module):
    """Targets whose prototypes are used equally over the batch of all ranks (SwAV, arXiv 2006.09882)."""

    def __init__(self, iterations: int = 3) -> None:
        super().__init__()
        self.iterations = iterations

    @torch.no_grad()
    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Targets (B, K) from logits (B, K): alternately equal prototype totals and unit row sums.

        Always in float32, as DINOv2 runs it.
        """
        plan = (logits.float() / temperature).exp().t()
        prototypes, samples = plan.shape[0], plan.shape[1] * world_size()
        plan = plan / all_sum(plan.sum())
        for _ in range(self.iterations):
            plan = plan / all_sum(plan.sum(1, keepdim=True)) / prototypes
            plan = plan / plan.sum(0, keepdim=True) / samples
        return (plan * samples).t().to(logits.dtype)
