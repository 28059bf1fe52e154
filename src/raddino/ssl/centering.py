"""How the teacher's logits become targets that cannot all agree: softmax centering or Sinkhorn-Knopp."""

import torch
from torch import Tensor, nn

from raddino.dist import all_max, all_sum


class SoftmaxCentering(nn.Module):
    """Softmax of ``(logits - centre) / temperature``; the centre is a moving mean of earlier steps' logits.

    Calls leave their sum and count behind; :meth:`update` moves the centre once per optimiser step.
    """

    center: Tensor

    def __init__(self, prototypes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(1, prototypes))
        self.seen: list[Tensor] = []

    @torch.no_grad()
    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Targets (B, K) from logits (B, K)."""
        self.seen.append(torch.cat([logits.sum(0), _count(logits)]))
        return ((logits - self.center) / temperature).softmax(-1)

    @torch.no_grad()
    def update(self) -> None:
        """Move the centre by the mean of the micro-batches since the last update, each the mean of all ranks' rows.

        Micro-batches without rows do not count; the centre stays where none has any.
        """
        if self.seen:
            sums, counts = all_sum(torch.stack(self.seen)).split([self.center.shape[1], 1], dim=1)
            some = counts.clamp(max=1)
            mean = (sums / counts.clamp(min=1)).sum(0, keepdim=True) / some.sum().clamp(min=1)
            self.center.lerp_(mean.to(self.center.dtype), (some.max() * (1 - self.momentum)).to(self.center.dtype))
            self.seen.clear()


def _count(rows: Tensor) -> Tensor:
    """Number of ``rows``, (1,) beside them: no wait for the device."""
    return rows.new_full((1,), len(rows))


COLDEST_IN_FLOAT32 = 1 / 80
LARGEST_EXPONENT = {torch.float32: 80.0, torch.float64: 600.0}


class SinkhornKnopp(nn.Module):
    """Targets whose prototypes are used equally over the batch of all ranks (SwAV, arXiv 2006.09882)."""

    def __init__(self, iterations: int = 3) -> None:
        super().__init__()
        self.iterations = iterations

    @torch.no_grad()
    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Targets (B, K) from logits (B, K): alternately equal prototype totals and unit row sums.

        Ranks may hold different numbers of rows, or none.

        In float32, as DINOv2 runs it; temperatures at which float32 cannot hold the exponentials take float64.
        What still would not fit is shifted down, which the total sum takes out again. The exponentials are read, not
        rewritten, at each iteration: their factors by prototype and by row change.
        """
        dtype = torch.float32 if temperature >= COLDEST_IN_FLOAT32 else torch.float64
        scaled = logits.to(dtype) / temperature
        largest = all_max(scaled.max() if len(scaled) else scaled.new_full((), -torch.inf))
        plan = (scaled - (largest - LARGEST_EXPONENT[dtype]).clamp(min=0)).exp_()
        prototypes, samples = plan.shape[1], all_sum(_count(scaled))
        of_rows = (1 / all_sum(plan.sum())).expand(len(plan))
        for _ in range(self.iterations):
            of_prototypes = 1 / (all_sum(of_rows @ plan) * prototypes)
            of_rows = 1 / ((plan @ of_prototypes) * samples)
        return plan.mul_(of_prototypes).mul_((of_rows * samples)[:, None]).to(logits.dtype)
