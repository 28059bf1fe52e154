"""Accelerators that a run can be planned for without having one."""

import re
from dataclasses import dataclass

from raddino.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Accelerator:
    """What a data sheet says.

    Attributes:
        flops: a second, of dense bfloat16 products with float32 sums.
        memory: bytes.
        watts: largest power of the board.
        source: the data sheet.
    """

    flops: float
    memory: float
    watts: float
    source: str


ACCELERATORS = {
    "a100": Accelerator(312e12, 80e9, 400, "NVIDIA A100 80GB SXM data sheet, nvidia.com/en-us/data-center/a100"),
    "a100-40": Accelerator(312e12, 40e9, 400, "NVIDIA A100 40GB SXM data sheet, nvidia.com/en-us/data-center/a100"),
    "h100": Accelerator(989e12, 80e9, 700, "NVIDIA H100 SXM data sheet, nvidia.com/en-us/data-center/h100"),
    "h200": Accelerator(989e12, 141e9, 700, "NVIDIA H200 SXM data sheet, nvidia.com/en-us/data-center/h200"),
    "l4": Accelerator(121e12, 24e9, 72, "NVIDIA L4 data sheet, nvidia.com/en-us/data-center/l4"),
    "l40s": Accelerator(362e12, 48e9, 350, "NVIDIA L40S data sheet, nvidia.com/en-us/data-center/l40s"),
    "rtx4090": Accelerator(165e12, 24e9, 450, "NVIDIA Ada GPU architecture white paper, table of the RTX 4090"),
}


def parse_hardware(text: str) -> tuple[str, int]:
    """``"h100x8"`` to ``("h100", 8)``, ``"h100"`` to ``("h100", 1)``.

    Raises:
        ConfigError: an unknown name, or no number from 1 on.
    """
    said = text.strip().lower()
    name, _, number = (said, "", "1") if said in ACCELERATORS else said.rpartition("x")
    if name not in ACCELERATORS or not re.fullmatch(r"[1-9]\d{0,5}", number):
        raise ConfigError(
            f"--hardware takes NAME or NAMExNUMBER, for example h100x8; got {text[:40]!r}."
            f"{did_you_mean(said[:40], ACCELERATORS)} Known: {', '.join(ACCELERATORS)}; "
            "without --hardware this machine is measured"
        )
    return name, int(number)
