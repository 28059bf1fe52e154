"""Errors that a reimplementation of DINOv2's step makes, each put into this one's code by a patch."""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn.utils import clip_grad_norm_

from raddino.ssl import SelfDistillation, Views, centering, head, losses, task
from raddino.training import optimizer, step, verify
from raddino.vit import VisionTransformer, block, model
from raddino.vit.linear import linear


def unswapped_halves(patch):
    real = task.needed_tokens

    def needed_tokens(backbone, crops, masks, rows, generator=None):
        cls, masked = real(backbone, crops, masks, rows, generator)
        return (torch.cat(cls.chunk(2)[::-1]) if masks is None else cls), masked

    patch.setattr(task, "needed_tokens", needed_tokens)


def sinkhorn_iterations(count, patch):
    patch.setattr(task, "SinkhornKnopp", partial(centering.SinkhornKnopp, count))


def koleo_over_both_halves(patch):
    real, seen = task.koleo, []

    def koleo(half):
        seen.append(half)
        if len(seen) % 2:
            return half.new_zeros(())
        return 2 * real(torch.cat([seen.pop(0), seen.pop(0)]))

    patch.setattr(task, "koleo", koleo)


def one_global_clip(patch):
    def clip_gradients(student, largest):
        return dict.fromkeys(dict(student.named_children()), clip_grad_norm_(student.parameters(), largest))

    patch.setattr(step, "clip_gradients", clip_gradients)


def teacher_before_optimizer(patch):
    real, move = verify.apply_gradients, SelfDistillation.update_teacher

    def apply_gradients(task, optimizer, values, clip_grad):
        move(task, values.momentum)
        return real(task, optimizer, values, clip_grad)

    patch.setattr(SelfDistillation, "update_teacher", lambda task, momentum: None)
    patch.setattr(verify, "apply_gradients", apply_gradients)


def another_objective(changes, patch):
    real = SelfDistillation.__init__
    patch.setattr(
        SelfDistillation, "__init__", lambda self, vit, config: real(self, vit, config.model_copy(update=changes))
    )


def masked_patches_count_alike(patch):
    real = Views.build

    def build(*arguments):
        views = real(*arguments)
        views.masked_weights = torch.ones_like(views.masked_weights)
        return views

    patch.setattr(Views, "build", build)


def centre_moves_at_once(patch):
    real = centering.SoftmaxCentering.forward

    def forward(self, logits, temperature):
        real(self, logits, temperature)
        self.update()
        targets = real(self, logits, temperature)
        self.seen.clear()
        return targets

    patch.setattr(centering.SoftmaxCentering, "forward", forward)


def decayed_biases(patch):
    real = optimizer.multipliers

    def multipliers(name, depth, config):
        m = real(name, depth, config)
        decay = 1.0 if name.endswith(".bias") else m.weight_decay
        return optimizer.Multipliers(m.lr, decay, m.last_layer, m.backbone)

    for module in (optimizer, verify):
        patch.setattr(module, "multipliers", multipliers)


def mask_token_after_positions(patch):
    real = VisionTransformer._embed

    def _embed(self, images, masks):
        tokens, shapes, grids = real(self, images, masks)
        hidden = [
            torch.zeros(shape, dtype=torch.bool)
            if mask is None
            else torch.cat([mask.new_zeros(len(mask), self.leading), mask], dim=1)
            for shape, mask in zip(shapes, masks, strict=True)
        ]
        rows = torch.cat([group.flatten() for group in hidden])
        return torch.where(rows[:, None], self.mask_token, tokens), shapes, grids

    patch.setattr(VisionTransformer, "_embed", _embed)


def teacher_sees_masks(patch):
    real = task.needed_tokens

    def needed_tokens(backbone, crops, masks, rows, generator=None):
        if masks is None:
            patches = crops[0][0, 0].numel() // backbone.config.patch_size**2
            masks = torch.zeros(len(crops[0]) * patches, dtype=torch.bool)
            masks[rows] = True
            masks = masks.view(-1, patches)
        return real(backbone, crops, masks, rows, generator)

    patch.setattr(task, "needed_tokens", needed_tokens)


def larger_adam_eps(patch):
    patch.setattr(torch.optim, "AdamW", partial(torch.optim.AdamW, eps=1e-6))


def tanh_gelu_in_the_heads(patch):
    def wrong(x, layer, gain=None, activation="none"):
        out = linear(x, layer, gain)
        return torch.nn.functional.gelu(out, approximate="tanh") if activation == "gelu" else out

    patch.setattr(head, "linear", wrong)


def positions_antialiased(wrong, patch):
    real = model.position_embedding
    patch.setattr(model, "position_embedding", lambda positions, grid, offset, _: real(positions, grid, offset, wrong))


def layer_norm_eps(patch):
    for module in (block, model):
        patch.setattr(module, "NORM_EPS", 1e-5)


def koleo_eps(patch):
    patch.setattr(losses, "KOLEO_EPS", 1e-6)


WRONG: dict[str, Callable] = {
    "halves of the teacher not swapped": unswapped_halves,
    "2 Sinkhorn iterations": partial(sinkhorn_iterations, 2),
    "4 Sinkhorn iterations": partial(sinkhorn_iterations, 4),
    "KoLeo over both halves at once": koleo_over_both_halves,
    "one global clip": one_global_clip,
    "EMA before the optimiser step": teacher_before_optimizer,
    "student temperature 0.11": partial(another_objective, {"student_temperature": 0.11}),
    "mask weights without 1 / count": masked_patches_count_alike,
    "centre updated at once": centre_moves_at_once,
    "decay on biases": decayed_biases,
    "mask token after the positions": mask_token_after_positions,
    "teacher that sees masks": teacher_sees_masks,
    "Adam eps 1e-6": larger_adam_eps,
    "tanh GELU in the heads": tanh_gelu_in_the_heads,
    "antialias where there is none": partial(positions_antialiased, True),
}
WRONG_IN_FLOAT64: dict[str, Callable] = {"LayerNorm eps 1e-5": layer_norm_eps, "KoLeo eps 1e-6": koleo_eps}
