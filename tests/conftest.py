"""Where tests find the real data that stays outside the repository."""

import os
import signal
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real X-rays and golden files (``RADDINO_SHARED`` or ``../shared``); absent means skip."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("RADDINO_SHARED", default))
    if not (folder / "data").is_dir():
        pytest.skip("the shared real data is not on this machine")
    return folder


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Ctrl-C and SIGHUP reach tests and their processes also in the background and under ``nohup``."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
