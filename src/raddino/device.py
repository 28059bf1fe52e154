"""Where networks run: one meaning of ``auto``, ``cpu`` and ``cuda`` everywhere."""

import torch

from raddino.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """The device called ``name``; ``"auto"`` is the first GPU where there is one, else the CPU.

    Raises:
        ConfigError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()
    except (RuntimeError, AssertionError):
        raise ConfigError(f"there is no device {name!r} here: use cpu, cuda (with a GPU) or auto") from None
    return device
