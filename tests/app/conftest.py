import shutil
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from raddino.images.wall import Wall
from report.fabricated import FakeCorpus, FakeEncoder

fastapi = pytest.importorskip("fastapi", reason="the extra app is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra app is not installed")


class OtherEncoder(FakeEncoder):
    name, fingerprint = "other", "1" * 64


@dataclass
class Served:
    """A running page; ``token`` is used up by the first who comes."""

    looker: object
    guard: object
    address: str


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> FakeCorpus:
    return FakeCorpus(path=tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def wall():
    with Wall() as wall:
        yield wall


@pytest.fixture
def looker(corpus: FakeCorpus, wall: Wall):
    from raddino.app.state import Looker

    return Looker(corpus, [FakeEncoder(), OtherEncoder()], wall)


@pytest.fixture
def served(looker):
    from raddino.app.guard import Guard
    from raddino.app.server import build

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        guard = Guard(port)
        server = uvicorn.Server(uvicorn.Config(build(looker, guard), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield Served(looker, guard, f"http://127.0.0.1:{port}")
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def chromium():
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed")
    with sync.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, served):
    """Opened by the token; nothing in its console may complain."""
    context = chromium.new_context(viewport={"width": 1200, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(15_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.complaints = complaints
    page.goto(f"{served.address}/?token={served.guard.token}")
    page.wait_for_selector("canvas.pane")
    yield page
    context.close()
    assert complaints == []


@pytest.fixture
def png(tmp_path: Path) -> Path:
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(5)
    file = tmp_path / "john-doe.png"
    small = Image.fromarray((draw.random((6, 8)) * 255).astype(np.uint8))
    small.resize((160, 120), Image.Resampling.BICUBIC).save(file)
    return file
