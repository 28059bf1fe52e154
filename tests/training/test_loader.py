"""What loader processes send, and views made ahead on a stream of their own."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch

from acquisition_columns import with_acquisition
from memory_corpus import MemoryCorpus, toy_corpus
from raddino.errors import RaddinoError
from raddino.files import SCRATCH
from raddino.training.loader import Batch, Rendered, Samples, make_views
from raddino.views import Multicrop, ViewPlan, ViewsConfig
from training.faults import of_session

CONFIG = ViewsConfig(global_size=32, local_size=16, local_views=3, blur=(0.5, 0.5, 0.5))
CPU = torch.device("cpu")


def batch(number=0, count=3, dtype=torch.uint8, height=41, width=37, guides=3) -> Batch:
    """Odd sizes, so that parts of other types end anywhere."""
    pixels = torch.from_numpy(np.random.default_rng(number).integers(0, 256, (count, height, width), dtype=np.uint8))
    images = pixels if dtype == torch.uint8 else pixels / 255
    plan = ViewPlan.stack([ViewPlan.draw(CONFIG, height, width, number, at) for at in range(count)])
    return Batch(images, plan, torch.arange(2 * count * 7).view(2 * count, 7) % 3 == 0, torch.rand(count, guides, 2))


def parts(one: Batch) -> dict[str, torch.Tensor]:
    plan = {field.name: getattr(one.plan, field.name) for field in fields(ViewPlan)}
    return {"images": one.images, "masks": one.masks, "targets": one.targets, **plan}


def test_there_is_a_plan_to_lose():
    assert batch().plan.flip.any()
    assert batch().plan.sigma.any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("guides", [0, 1, 3])
def test_a_batch_comes_through_as_it_was(dtype, count, guides):
    sent = batch(count=count, dtype=dtype, guides=guides)
    got = pickle.loads(pickle.dumps(sent))
    for name, tensor in parts(sent).items():
        other = parts(got)[name]
        assert (other.dtype, other.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(other, tensor), name


def test_a_batch_that_is_a_view_of_larger_tensors_comes_through():
    one = batch()
    one.images = one.images.transpose(1, 2)[:, ::2]
    assert torch.equal(pickle.loads(pickle.dumps(one)).images, one.images)


def test_a_batch_is_one_tensor_between_processes(monkeypatch):
    shared = []
    real = torch.UntypedStorage._share_fd_cpu_
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", lambda one: shared.append(1) or real(one))
    monkeypatch.setattr(multiprocessing.reduction, "DupFd", lambda descriptor: None)
    ForkingPickler.dumps(batch())
    assert len(shared) == 1


class Streams:
    """Records in which order streams wait and work is given to them."""

    def __init__(self):
        self.log, self.current = [], "step"

    def get(self, device):
        return self

    def Stream(self, device):
        return Stream(self, "aside")

    def current_stream(self, device):
        return Stream(self, self.current)

    def stream(self, other):
        return Inside(self, other.name)


class Stream:
    def __init__(self, streams, name):
        self.streams, self.name = streams, name

    def wait_stream(self, other):
        self.streams.log.append(f"{self.name} waits for {other.name}")


class Inside:
    def __init__(self, streams, name):
        self.streams, self.name = streams, name

    def __enter__(self):
        self.streams.current = self.name

    def __exit__(self, *_):
        self.streams.current = "step"


@pytest.fixture
def streams(monkeypatch) -> Streams:
    recorded = Streams()
    monkeypatch.setattr(torch, "get_device_module", recorded.get)
    return recorded


def test_on_the_gpu_the_next_views_are_made_beside_the_step(streams):
    def render(number):
        streams.log.append(f"views {number} on {streams.current}")
        return number

    for number in Rendered(iter([1, 2]), render, torch.device("cuda")):
        streams.log.append(f"step {number} on {streams.current}")
    assert streams.log == [
        "aside waits for step",
        "views 1 on aside",
        "step waits for aside",
        "aside waits for step",
        "views 2 on aside",
        "step 1 on step",
        "step waits for aside",
        "aside waits for step",
        "step 2 on step",
        "aside waits for step",
        "step waits for aside",
        "aside waits for step",
    ]


def test_on_the_cpu_nothing_is_made_ahead(streams):
    for number in Rendered(iter([1, 2]), lambda number: streams.log.append(number) or number, CPU):
        streams.log.append(f"step {number}")
    assert streams.log == [1, "step 1", 2, "step 2"]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU"))])  # fmt: skip
def test_views_ahead_are_the_same(device, ahead):
    place, multicrop = torch.device(device), Multicrop(CONFIG)

    def render(one):
        return make_views(one, multicrop, place)

    plain = [render(batch(number)) for number in range(4)]
    seen = list(Rendered((batch(number) for number in range(4)), render, place, ahead))
    assert len(seen) == len(plain)
    for one, other in zip(seen, plain, strict=True):
        assert torch.equal(one.global_crops, other.global_crops)
        assert torch.equal(one.local_crops, other.local_crops)
        assert torch.equal(one.masks, other.masks)


@pytest.mark.parametrize(("ahead", "steps"), [(False, 2), (True, 1)])
def test_an_error_ends_the_views(ahead, steps):
    def batches():
        yield 1
        yield 2
        raise RaddinoError("damaged")

    done = []
    with pytest.raises(RaddinoError, match="damaged"):
        done.extend(Rendered(batches(), lambda number: number, CPU, ahead))
    views = Rendered(batches(), lambda number: number, CPU, ahead)
    assert [next(views) for _ in range(steps)] == [1, 2][:steps]
    with pytest.raises(RaddinoError, match="damaged"):
        next(views)


@pytest.mark.parametrize("ahead", [False, True])
def test_only_the_wait_for_the_loader_counts_as_waiting(monkeypatch, ahead):
    clock = [0.0]
    monkeypatch.setattr("raddino.training.loader.time.perf_counter", lambda: clock[0])

    def batches():
        for number in (1, 2, 3):
            clock[0] += 1.0
            yield number

    def render(number):
        clock[0] += 100.0
        return number

    views = Rendered(batches(), render, CPU, ahead)
    assert [next(views) for _ in range(3)] == [1, 2, 3]
    assert views.waited == 3.0


def test_no_word_on_how_images_were_taken_reaches_a_batch(tmp_path):
    plain = toy_corpus(tmp_path, n=12)
    told = MemoryCorpus(plain.images, with_acquisition(plain.manifest), tmp_path)
    plain.weights = told.weights = {"toy": 2}
    drawn = [Samples(corpus, np.arange(12), CONFIG, seed=3) for corpus in (plain, told)]
    for position in range(24):
        (at, image, plan, none), (other_at, other, other_plan, nothing) = (samples[position] for samples in drawn)
        assert none.numel() == nothing.numel() == 0
        assert at == other_at == position
        assert torch.equal(image, other)
        pairs = [(getattr(plan, field.name), getattr(other_plan, field.name)) for field in fields(ViewPlan)]
        assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs)


READ = """
import sys, time
from pathlib import Path
import numpy as np
from memory_corpus import toy_corpus
from raddino.training.loader import Collate, Positions, Samples, make_loader, reading
from raddino.views import ViewsConfig

views = ViewsConfig(global_size=32, local_size=16, local_views=1)
corpus = toy_corpus(Path(sys.argv[1]), 40)
corpus.weights = {}
samples = Samples(corpus, np.arange(40), views, 0)
loader = make_loader(samples, Collate(views, 0, 4, (4, 4), True), Positions(4, 0, 100), 2, False)
with reading(loader) as batches:
    for number, _ in enumerate(batches):
        print(number, flush=True)
        time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def short():
    """A folder of a short path."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        yield Path(place)


@pytest.fixture
def begin(tmp_path, short):
    """Begins to read by two processes, with a temporary folder of its own."""
    own = {"TMPDIR": str(short), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "torch")}
    environment = os.environ | own | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def reader(seconds: float) -> subprocess.Popen:
        words = [sys.executable, "-c", READ, str(tmp_path), str(seconds)]
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, start_new_session=True)

    return reader


@pytest.mark.parametrize("whom", ["parent", "all", "interrupt", "nobody"])
def test_a_killed_reader_leaves_no_process_and_nothing_in_the_temporary_folder(begin, short, whom):
    process = begin(0 if whom == "nobody" else 0.5)
    for _ in range(3):
        assert process.stdout.readline()
    left = list(short.iterdir())
    assert len(left) == 1
    assert left[0].name.startswith(SCRATCH)
    assert len(list(left[0].glob("pymp-*/listener-*"))) == 2
    if whom == "parent":
        process.kill()
    elif whom != "nobody":
        os.killpg(process.pid, signal.SIGKILL if whom == "all" else signal.SIGINT)
    process.stdout.read()
    assert (process.wait() == 0) == (whom == "nobody")
    end = time.monotonic() + 20
    while of_session(process.pid):
        assert time.monotonic() < end
        time.sleep(0.05)
    if whom == "all":
        assert list(short.iterdir()) == left
        assert begin(0).communicate()[0].endswith(b"99\n")
    assert not list(short.iterdir())
