"""Replay a golden file of DINOv2's own training step through the production training code."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from raddino.device import resolve_device
from raddino.errors import RaddinoError
from raddino.ssl import SelfDistillation, SslConfig, Views
from raddino.ssl.head import HeadConfig
from raddino.training.optimizer import OptimConfig, build_optimizer, multipliers
from raddino.training.schedule import Schedule, ScheduleConfig
from raddino.training.step import apply_gradients, compute_gradients
from raddino.vit.weights import from_official

Precision = Literal["float64", "float32"]
# Ten times what the reference itself moves between SSE4.2, AVX2 and AVX-512: it interpolates positions and runs
# Sinkhorn-Knopp in float32 even in a float64 replay.
LIMITS: dict[str, dict[Precision, float]] = {
    "losses": {"float64": 1e-6, "float32": 1e-5},
    "gradients": {"float64": 1.2e-5, "float32": 2e-4},
    "gradient norms": {"float64": 5e-6, "float32": 3e-5},
    "schedules": {"float64": 1e-12, "float32": 1e-12},
    "parameter groups": {"float64": 0.0, "float32": 0.0},
    "final student": {"float64": 5e-7, "float32": 6e-6},
    "final teacher": {"float64": 5e-7, "float32": 3e-6},
    "features": {"float64": 6e-6, "float32": 3e-5},
}
CENTERING = {
    "centering": "softmax",
    "softmax": "softmax",
    "sinkhorn_knopp": "sinkhorn_knopp",
    "sinkhorn": "sinkhorn_knopp",
}
DEFAULTS: dict[str, Any] = {
    "mlp_ratio": 4.0,
    "interpolate_offset": 0.1, "interpolate_antialias": False, "centering": "centering", "student_temp": 0.1,
    "center_momentum": 0.9, "dino_loss_weight": 1.0, "ibot_loss_weight": 1.0, "koleo_weight": 0.1, "clip_grad": 3.0,
    "layerwise_decay": 0.9, "patch_embed_lr_mult": 0.2, "betas": [0.9, 0.999],
}  # fmt: skip
REQUIRED = ("losses", "gradients", "gradient norms")


@dataclass(frozen=True)
class Check:
    """Largest deviation of one quantity, where it was found, and the limit it is held to."""

    quantity: str
    deviation: float
    limit: float
    worst: str
    count: int

    @property
    def ok(self) -> bool:
        """Whether the deviation is a number within the limit."""
        return self.deviation <= self.limit


def verify(file: Path, precision: Precision = "float64", device: str = "cpu") -> list[Check]:
    """Replay a golden file and compare every quantity it holds.

    Student and teacher are rebuilt from ``init/...``, fed with the stored crops and masks in the three-channel
    mode, and stepped by the functions that ``pretrain`` steps with.

    Args:
        file: the ``.safetensors`` file; its settings and figures stand in the ``.json`` beside it.
        precision: dtype of weights, crops and arithmetic.
        device: where to run.

    Returns:
        One :class:`Check` per quantity; deviations are relative for scalars (absolute for schedules), relative
        to the tensor's norm for gradients and weights, and the largest absolute difference relative to the
        largest value for features.

    Raises:
        RaddinoError: a file is missing, unreadable or not a golden file, or lacks what would prove the step.
    """
    tensors, golden = _read(Path(file))
    place, dtype = resolve_device(device), torch.float64 if precision == "float64" else torch.float32
    try:
        return _replay(golden, tensors, precision, place, dtype)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise RaddinoError(
            f"{Path(file).name} does not have the layout of a golden file ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]})"
        ) from None


def _replay(
    golden: dict[str, Any], tensors: dict[str, Tensor], precision: Precision, device: torch.device, dtype: torch.dtype
) -> list[Check]:
    task = _build(golden, tensors).to(device=device, dtype=dtype).train()
    checks = _Checks(precision)
    optim = OptimConfig(
        betas=golden["betas"],
        layer_decay=golden["layerwise_decay"],
        patch_embed_lr=golden["patch_embed_lr_mult"],
        clip_grad=golden["clip_grad"] or 0.0,
    )
    _parameter_groups(checks, task, optim, golden)
    schedule = _schedules(checks, golden)
    optimizer = build_optimizer(task.student, optim)
    for index, step in enumerate(golden["steps"]):
        values = schedule[index]
        outcome = compute_gradients(task, [_views(tensors, index, device, dtype)], 1, values, "fp32")
        for term in ("dino_local", "dino_global", "koleo", "ibot"):
            key = f"{term}_crops_loss" if term.startswith("dino") else f"{term}_loss"
            if key in step:
                checks.scalar("losses", outcome.terms[term].item(), step[key], f"step {index} {key}")
        for name, parameter in task.student.named_parameters():
            if (key := f"step{index}/grad/{name}") in tensors:
                grad = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
                checks.tensor("gradients", grad, tensors[key], name)
            elif index == 0 and parameter.grad is not None and parameter.grad.any():
                checks.add("gradients", math.inf, f"{key} is missing")
        norms = apply_gradients(task, optimizer, values, optim.clip_grad)
        for part, norm in step.get("grad_norm_before_clip", {}).items():
            checks.scalar("gradient norms", norms[part].item(), norm, f"step {index} {part}")
    _features(checks, task, tensors, device, dtype)
    for side in ("student", "teacher"):
        for name, parameter in getattr(task, side).named_parameters():
            if (key := f"final/{side}/{name}") in tensors:
                checks.tensor(f"final {side}", parameter, tensors[key], name)
            else:
                checks.add(f"final {side}", math.inf, f"{key} is missing")
    if absent := [quantity for quantity in REQUIRED if quantity not in checks.found]:
        raise RaddinoError(f"the golden file holds no {', '.join(absent)}, so replaying it proves nothing")
    return checks.rows()


class _Checks:
    """Collects deviations and keeps the worst of each quantity."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self.found: dict[str, list[tuple[float, str]]] = {}

    def add(self, quantity: str, deviation: float, where: str) -> None:
        self.found.setdefault(quantity, []).append((deviation if deviation == deviation else math.inf, where))

    def scalar(self, quantity: str, got: float, expected: float, where: str) -> None:
        self.add(quantity, abs(got - expected) / max(abs(expected), 1e-12), where)

    def tensor(self, quantity: str, got: Tensor, expected: Tensor, where: str) -> None:
        got, expected = got.detach().double().cpu(), expected.double()
        if got.shape != expected.shape:
            raise RaddinoError(f"{where}: golden shape {tuple(expected.shape)}, ours {tuple(got.shape)}")
        if self.precision == "float32" and where.endswith("attn.qkv.bias"):
            got, expected = _without_key_third(got), _without_key_third(expected)
        norm = expected.norm().item()
        self.add(quantity, (got - expected).norm().item() / (norm if norm > 0 else 1.0), where)

    def rows(self) -> list[Check]:
        rows = []
        for quantity, limits in LIMITS.items():
            if quantity in self.found:
                deviation, where = max(self.found[quantity])
                rows.append(Check(quantity, deviation, limits[self.precision], where, len(self.found[quantity])))
        return rows


def _without_key_third(bias: Tensor) -> Tensor:
    """The query and value parts: the key part's true gradient is zero, so in float32 Adam moves it by noise."""
    query, _, value = bias.chunk(3)
    return torch.cat([query, value])


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    for path in (file, file.with_suffix(".json")):
        if not path.is_file():
            raise RaddinoError(f"golden file {path} is missing: verify needs FILE.safetensors and FILE.json")
    try:
        tensors, golden = load_file(file), json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    except (SafetensorError, ValueError) as error:
        raise RaddinoError(f"{file.name} or its .json cannot be read: {error}") from None
    if missing := sorted({"num_heads", "schedule", "steps", "param_groups"} - set(golden)):
        raise RaddinoError(f"{file.stem}.json lacks {', '.join(missing)}: is it a golden file?")
    golden["param_groups"] = {_unchunked(name): group for name, group in golden["param_groups"].items()}
    return {_unchunked(name): tensor for name, tensor in tensors.items()}, DEFAULTS | golden


def _unchunked(name: str) -> str:
    """``blocks.0.7.`` of a model built in chunks is block 7."""
    return re.sub(r"backbone\.blocks\.\d+\.(\d+\.)", r"backbone.blocks.\1", name)


def _build(golden: dict[str, Any], tensors: dict[str, Tensor]) -> SelfDistillation:
    """Student and teacher with the initial weights; all shapes are read off these, the rest off the settings."""
    weights = {name.removeprefix("init/"): t for name, t in tensors.items() if name.startswith("init/")}
    vit = from_official(weights).config.model_copy(
        update={
            "num_heads": golden["num_heads"],
            "mlp_ratio": golden["mlp_ratio"],
            "interpolate_offset": golden["interpolate_offset"] or 0.0,
            "interpolate_antialias": golden["interpolate_antialias"],
        }
    )
    config = SslConfig(
        head=_head(weights, "dino_head"),
        ibot_head=_head(weights, "ibot_head") if "ibot_head.last_layer.weight_v" in weights else None,
        centering=CENTERING[golden["centering"]],
        student_temperature=golden["student_temp"],
        center_momentum=golden["center_momentum"],
        dino_weight=golden["dino_loss_weight"],
        ibot_weight=golden["ibot_loss_weight"],
        koleo_weight=golden["koleo_weight"],
    )
    task = SelfDistillation(vit, config)
    task.student.load_state_dict(weights)
    return task.reset_teacher()


def _head(weights: dict[str, Tensor], name: str) -> HeadConfig:
    prototypes, bottleneck = weights[f"{name}.last_layer.weight_v"].shape
    layers = [key for key in weights if key.startswith(f"{name}.mlp.") and key.endswith("weight")]
    hidden = weights[sorted(layers)[0]].shape[0]
    return HeadConfig(prototypes=prototypes, bottleneck=bottleneck, hidden=hidden, layers=len(layers))


def _views(tensors: dict[str, Tensor], index: int, device: torch.device, dtype: torch.dtype) -> Views:
    local_crops = tensors.get(f"step{index}/local_crops")
    return Views.build(
        tensors[f"step{index}/global_crops"].to(device, dtype),
        None if local_crops is None else local_crops.to(device, dtype),
        tensors[f"step{index}/masks"].bool(),
    )


def _features(
    checks: _Checks, task: SelfDistillation, tensors: dict[str, Tensor], device: torch.device, dtype: torch.dtype
) -> None:
    if "forward/input" not in tensors:
        return
    images = tensors["forward/input"].to(device, dtype)
    with torch.no_grad():
        backbone = task.student.backbone
        layers = sum(1 for name in tensors if name.startswith("forward/intermediate") and name.endswith("cls"))
        found = {"forward": backbone(images)}
        for index, features in enumerate(backbone.intermediate(images, layers)):
            found[f"forward/intermediate{index}"] = features
    for prefix, features in found.items():
        for kind in ("cls", "registers", "patches"):
            if (key := f"{prefix}/{kind}") in tensors:
                expected = tensors[key].double()
                difference = (getattr(features, kind).double().cpu() - expected).abs().max().item()
                checks.add("features", difference / expected.abs().max().item(), key)


def _parameter_groups(checks: _Checks, task: SelfDistillation, optim: OptimConfig, golden: dict[str, Any]) -> None:
    ours = {
        name: multipliers(name, task.student.backbone.config.depth, optim)
        for name, _ in task.student.named_parameters()
    }
    expected = golden["param_groups"]
    for name in sorted(set(ours) | set(expected)):
        if name not in ours or name not in expected:
            checks.add("parameter groups", math.inf, f"{name} stands on one side only")
            continue
        m, e = ours[name], expected[name]
        same = abs(m.lr - e["lr"]) < 1e-12 and m.weight_decay == e["wd"] and m.last_layer == e["last_layer"]
        checks.add("parameter groups", 0.0 if same else 1.0, name)


def _schedules(checks: _Checks, golden: dict[str, Any]) -> Schedule:
    g = golden["schedule"]
    schedule = Schedule(
        ScheduleConfig(
            lr=g["lr_base"],
            lr_final=g["lr_final"],
            warmup_steps=g["lr_warmup"],
            freeze_last_layer_steps=g["last_layer_frozen_steps"],
            weight_decay=g["wd"][0],
            weight_decay_final=g["wd"][1],
            momentum=g["momentum"][0],
            momentum_final=g["momentum"][1],
            teacher_temperature=g["teacher_temp"][0],
            teacher_temperature_final=g["teacher_temp"][1],
            teacher_temperature_steps=g["teacher_temp_warmup"],
        ),
        g["total"],
    )
    tables = {"lr": "lr", "weight_decay": "weight_decay", "momentum_values": "momentum"}
    for key, ours in tables.items():
        for step, value in enumerate(g.get(key, [])):
            checks.add("schedules", abs(float(getattr(schedule, ours)[step]) - value), f"{key} at {step}")
    names = {"teacher_temp": "teacher_temperature"}
    for index, step in enumerate(golden["steps"]):
        values = schedule[index]
        for key in ("lr", "last_layer_lr", "weight_decay", "momentum", "teacher_temp"):
            ours = getattr(values, names.get(key, key))
            checks.add("schedules", abs(ours - step[key]), f"{key} at {index}")
    return schedule
