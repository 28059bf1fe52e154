"""Student and teacher joined: one step's four loss terms from one step's views."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from raddino.config import Config
from raddino.ssl.centering import SinkhornKnopp, SoftmaxCentering
from raddino.ssl.gradients import GradientsConfig, OrientedGradients
from raddino.ssl.gram import GramAnchor, GramConfig
from raddino.ssl.guides import Columns, Guide, Guides, ramp
from raddino.ssl.head import HeadConfig, ProjectionHead
from raddino.ssl.losses import cross_entropy, full, kde, koleo
from raddino.vit import VisionTransformer, VitConfig


class SslConfig(Config):
    """The objective. Defaults are DINOv2's, with RAD-DINO's head.

    Attributes:
        head: the DINO head, and the iBOT head too unless ``ibot_head`` is given.
        ibot_head: a separate head for masked patches; None shares the DINO head.
        centering: how teacher targets are balanced; Sinkhorn-Knopp holds at small batches.
        dino_weight: weight of the image-level loss.
        ibot_weight: weight of masked image modelling; 0 turns it off and no patch is masked.
        koleo_weight: weight of the KoLeo regulariser on each global view.
        kde_weight: likewise of :func:`raddino.ssl.losses.kde`, to take the place of KoLeo; 0 is off.
        kde_concentration: of its kernel; Virchow2's is 5.
        gradients: of asking patches for the gradients of what they show.
        gram: of anchoring patches to an earlier teacher's.
        guides: columns that heads predict from the student's class tokens of global views, and whether these are to
            ``keep`` what the columns tell or to have it removed: ``{manufacturer: remove, sex: keep}``.
        guide_weight: of the gradients that reach the backbone from these heads; 0 lets them watch alone.
        guide_ramp_steps: steps over which that weight rises from 0, as :func:`raddino.ssl.guides.ramp` says.
        guide_hidden: width of each head's hidden layer; 0 for a linear head.
    """

    head: HeadConfig = HeadConfig()
    ibot_head: HeadConfig | None = None
    centering: Literal["softmax", "sinkhorn_knopp"] = "softmax"
    student_temperature: float = Field(0.1, gt=0)
    center_momentum: float = Field(0.9, ge=0, lt=1)
    dino_weight: float = Field(1.0, ge=0)
    ibot_weight: float = Field(1.0, ge=0)
    koleo_weight: float = Field(0.1, ge=0)
    kde_weight: float = Field(0.0, ge=0)
    kde_concentration: float = Field(5.0, gt=0, le=1e3)
    gradients: GradientsConfig = GradientsConfig()
    gram: GramConfig = GramConfig()
    guides: Columns = ()
    guide_weight: float = Field(1.0, ge=0)
    guide_ramp_steps: int = Field(1000, ge=0, le=10**7)
    guide_hidden: int = Field(256, ge=0, le=2**16)

    def guide_strength(self, step: int) -> float:
        """Factor of the gradients from guides at a step."""
        return self.guide_weight * ramp(step, self.guide_ramp_steps)


@dataclass
class Views:
    """One batch of views on the device.

    Attributes:
        global_crops: (2B, C, G, G), the B first views before the B second ones.
        local_crops: (n B, C, L, L), view by view; None without local views.
        masks: (2B, N) boolean over each global view's patches.
        masked_rows: (R,) int64, positions of the M True entries in the flattened masks; after them R - M others, for
            heads that are to get as many rows at every step. No target and no loss sees what becomes of those.
        masked_weights: (M,) each 1 / (masked patches of its image).
        gram_crops: (2B, C, G', G'), the global views as the Gram teacher sees them; None where it sees the others.
        targets: (B, G, 2) of the guides, see :class:`raddino.ssl.guides.Guides`; None without guides.
    """

    global_crops: Tensor
    local_crops: Tensor | None
    masks: Tensor
    masked_rows: Tensor
    masked_weights: Tensor
    gram_crops: Tensor | None = None
    targets: Tensor | None = None

    @classmethod
    def build(
        cls,
        global_crops: Tensor,
        local_crops: Tensor | None,
        masks: Tensor,
        gram_crops: Tensor | None = None,
        rows: int | None = None,
        targets: Tensor | None = None,
    ) -> "Views":
        """Views on the crops' device from masks that are still on the CPU, where counting them is free.

        Args:
            global_crops, local_crops, masks, gram_crops, targets: those of the views.
            rows: length of ``masked_rows``; None for the number of masked patches.

        Raises:
            ValueError: more patches are masked than ``rows``.
        """
        if local_crops is not None and len(local_crops) == 0:
            local_crops = None
        device = global_crops.device
        weights = (1 / masks.sum(1, keepdim=True).clamp(min=1)).expand_as(masks)[masks]
        masked_rows = masks.flatten().nonzero().flatten()
        if rows is not None:
            if len(masked_rows) > rows:
                raise ValueError(f"{len(masked_rows)} patches are masked, more than rows {rows}")
            others = (~masks).flatten().nonzero().flatten()
            masked_rows = torch.cat([masked_rows, others[: rows - len(masked_rows)]])
        return cls(
            global_crops,
            local_crops,
            masks.to(device, non_blocking=True),
            masked_rows.to(device, non_blocking=True),
            weights.to(device, global_crops.dtype, non_blocking=True),
            gram_crops,
            targets,
        )


@dataclass
class Losses:
    """One step's terms as scalars on the device, as DINOv2 displays them, and what the step minimises.

    Attributes:
        total: the weighted sum that is differentiated.
        dino_local, dino_global: share of the image-level loss of local and global student views.
        koleo: mean over the two global views, times its weight.
        ibot: masked image modelling loss.
        targets, predictions: teacher targets and student logits of the global views, (2B, K), detached.
        options: what options add to the total, by name.
        guides: figures of the guides, by name, see :class:`raddino.ssl.guides.Guidance`.
    """

    total: Tensor
    dino_local: Tensor
    dino_global: Tensor
    koleo: Tensor
    ibot: Tensor
    targets: Tensor
    predictions: Tensor
    options: dict[str, Tensor] = field(default_factory=dict)
    guides: dict[str, Tensor] = field(default_factory=dict)

    def terms(self) -> dict[str, Tensor]:
        """The displayed terms and the total, detached."""
        return {
            "loss": self.total.detach(),
            "dino_local": self.dino_local.detach(),
            "dino_global": self.dino_global.detach(),
            "koleo": self.koleo.detach(),
            "ibot": self.ibot.detach(),
            **{name: term.detach() for name, term in self.options.items()},
            **self.guides,
        }


def needed_tokens(
    backbone: VisionTransformer,
    crops: list[Tensor],
    masks: Tensor | None,
    masked_rows: Tensor,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """The tokens that a loss looks at, normed: class tokens of all crops and masked patches of the first group.

    Args:
        backbone: the network.
        crops: groups of images (B_i, C, H_i, W_i).
        masks: (B_0, N) of the first group, or None.
        masked_rows: (M,) positions in the flattened (B_0, N) patches.
        generator: of the stochastic depth.

    Returns:
        (sum of B_i, D) and (M, D).
    """
    tokens, shapes, _ = backbone.token_list(crops, [masks, *[None] * (len(crops) - 1)], generator)
    rows, start = [], 0
    for batch, length in shapes:
        rows.append(start + torch.arange(batch, device=tokens.device) * length)
        start += batch * length
    length = shapes[0][1]
    patches = length - backbone.leading
    rows.append(masked_rows // patches * length + backbone.leading + masked_rows % patches)
    normed = backbone.norm(tokens[torch.cat(rows)])
    return normed.split([len(normed) - len(masked_rows), len(masked_rows)])


class Network(nn.Module):
    """A backbone and its heads; student and teacher are one each, of which the student may have more heads."""

    def __init__(self, vit: VitConfig, config: SslConfig, guides: Sequence[Guide] = (), student: bool = False) -> None:
        super().__init__()
        self.backbone = VisionTransformer(vit)
        self.dino_head = ProjectionHead(vit.embed_dim, config.head)
        self.ibot_head = ProjectionHead(vit.embed_dim, config.ibot_head) if config.ibot_head else None
        self.guides = Guides(vit.embed_dim, config.guide_hidden, guides) if guides else None
        self.gradients = (
            OrientedGradients(vit.embed_dim, vit.patch_size, config.gradients)
            if student and config.gradients.weight else None
        )  # fmt: skip

    def project(self, cls: Tensor, masked: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Prototype logits of class tokens (B, D) and, of patches (R, D), the first ``count``."""
        if self.ibot_head is not None:
            return self.dino_head(cls), self.ibot_head(masked)[:count]
        logits = self.dino_head(torch.cat([cls, masked]))
        return logits[: len(cls)], logits[len(cls) : len(cls) + count]


class SelfDistillation(nn.Module):
    """DINOv2's training task: a student, its moving-average teacher, and their losses.

    ``student`` and ``teacher`` hold ``backbone``, ``dino_head`` and, if separate, ``ibot_head``; the teacher
    starts equal to the student and receives no gradients. ``gram`` is None where patches are not anchored. ``guides``
    are those that views bring targets for; the student alone has heads for them.
    """

    def __init__(self, vit: VitConfig, config: SslConfig, guides: Sequence[Guide] = ()) -> None:
        super().__init__()
        self.config = config
        self.student = Network(vit, config, guides, student=True)
        self.teacher = Network(vit.model_copy(update={"drop_path": 0.0}), config).requires_grad_(False)
        self.gram = GramAnchor(vit, config.gram) if config.gram.weight else None
        self.dino_centering = self._centering(config.head)
        self.ibot_centering = self._centering(config.ibot_head or config.head)

    def init_weights(self, generator: torch.Generator | None = None) -> "SelfDistillation":
        """Fresh student weights, copied to the teacher."""
        student = self.student
        for part in (student.backbone, student.dino_head, student.ibot_head, student.guides, student.gradients):
            if part is not None:
                part.init_weights(generator)
        return self.reset_teacher()

    @torch.no_grad()
    def reset_teacher(self) -> "SelfDistillation":
        """Make the teacher equal to the student."""
        own = self.teacher.state_dict()
        self.teacher.load_state_dict({name: part for name, part in self.student.state_dict().items() if name in own})
        if self.gram is not None:
            self.gram.renew(self.teacher.backbone)
        return self

    def begin_step(self, step: int) -> None:
        """What comes before the micro-batches of an optimiser step: the Gram teacher's renewal, where it is due."""
        if self.gram is not None and self.config.gram.renews(step):
            self.gram.renew(self.teacher.backbone)

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """``teacher = momentum * teacher + (1 - momentum) * student``."""
        students = dict(self.student.named_parameters())
        names, parameters = zip(*self.teacher.named_parameters(), strict=True)
        torch._foreach_lerp_(list(parameters), [students[name] for name in names], 1 - momentum)

    def update_centers(self) -> None:
        """Move the centres of softmax centering; Sinkhorn-Knopp has none."""
        for centering in (self.dino_centering, self.ibot_centering):
            if isinstance(centering, SoftmaxCentering):
                centering.update()

    def forward(
        self, views: Views, teacher_temperature: float, generator: torch.Generator | None = None, step: int = 0
    ) -> Losses:
        """Losses of one batch.

        Args:
            views: the crops and masks.
            teacher_temperature: sharpening of the teacher's targets at this step.
            generator: CPU generator of the student's stochastic depth.
            step: of the optimiser, which tells whether patches are anchored and how strong guides are.
        """
        temperature = self.config.student_temperature
        dino_targets, ibot_targets = self._teach(views, teacher_temperature)
        masks = views.masks if self.config.ibot_weight else None
        crops = [views.global_crops] if views.local_crops is None else [views.global_crops, views.local_crops]
        anchored = self.config.gram.begun(step)
        every = anchored or self.student.gradients is not None
        needed = torch.arange(views.masks.numel(), device=views.masks.device) if every else views.masked_rows
        cls, patches = needed_tokens(self.student.backbone, crops, masks, needed, generator)
        masked = patches[views.masked_rows] if every else patches
        cls_logits, masked_logits = self.student.project(cls, masked, len(views.masked_weights))
        globals_ = len(views.global_crops)
        global_cls = cls[:globals_]
        global_logits, local_logits = cls_logits.split([globals_, len(cls) - globals_])

        batch = globals_ // 2
        local_views = len(local_logits) // batch
        pairs = 2 + max(2 * local_views, 1)
        both = dino_targets[:batch] + dino_targets[batch:]
        local_rows = cross_entropy(local_logits.unflatten(0, (local_views, batch)), both, temperature)
        dino_local = local_rows.sum() / batch / pairs
        dino_global = cross_entropy(global_logits, dino_targets, temperature).mean() * 2 / pairs
        halves = [koleo(half) for half in global_cls.chunk(2)]
        koleo_loss = self.config.koleo_weight * (halves[0] + halves[1])
        rows = cross_entropy(masked_logits, ibot_targets, temperature)
        ibot = (rows * views.masked_weights).sum() / len(views.masks)
        total = self.config.dino_weight * (dino_local + dino_global) + koleo_loss + self.config.ibot_weight * ibot
        options = self._options(views, global_cls, patches, anchored)
        total, guides = sum(options.values(), start=total), {}
        if self.student.guides is not None:
            if views.targets is None:
                raise ValueError("the student has guides, the views bring no targets for them")
            guidance = self.student.guides(global_cls, views.targets, self.config.guide_strength(step))
            total, guides = total + guidance.total, guidance.terms
        shown = (dino_local, dino_global, koleo_loss / 2, ibot / 2)
        return Losses(total, *shown, dino_targets, global_logits.detach(), options, guides)

    def _options(self, views: Views, global_cls: Tensor, patches: Tensor, anchored: bool) -> dict[str, Tensor]:
        """What is added to the loss by options that are on, weighted.

        ``patches`` are all of the global views' where gradients or an anchor ask for them.
        """
        found = {}
        if weight := self.config.kde_weight:
            first, second = (kde(half, self.config.kde_concentration) for half in global_cls.chunk(2))
            found["kde"] = weight * (first + second)
        if self.student.gradients is not None:
            grid = patches.unflatten(0, (len(views.global_crops), -1))
            found["gradients"] = self.student.gradients(grid, views.global_crops)
        if self.gram is not None and anchored:
            crops = views.global_crops if views.gram_crops is None else views.gram_crops
            found["gram"] = self.gram(patches.unflatten(0, (len(crops), -1)), crops)
        return found

    @torch.no_grad()
    def _teach(self, views: Views, temperature: float) -> tuple[Tensor, Tensor]:
        """Targets for the global views, (2B, K) with the halves swapped, and for the masked patches, (M, K')."""
        cls, masked = needed_tokens(self.teacher.backbone, [views.global_crops], None, views.masked_rows)
        first, second = cls.chunk(2)
        cls_logits, masked_logits = self.teacher.project(torch.cat([second, first]), masked, len(views.masked_weights))
        dino = self.dino_centering(full(cls_logits), temperature)
        return dino, self.ibot_centering(full(masked_logits), temperature)

    def _centering(self, head: HeadConfig) -> nn.Module:
        if self.config.centering == "softmax":
            return SoftmaxCentering(head.prototypes, self.config.center_momentum)
        return SinkhornKnopp()
