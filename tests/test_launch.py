"""Launch files, as far as one machine can try them: parsed, and run with stand-ins for what a cluster has."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from torch.distributed.run import parse_args
from typer.main import get_command

from raddino import cli
from raddino.config import load_config
from raddino.corpus.dataset import Corpus
from raddino.training.checkpoint import latest_step
from raddino.training.metrics_log import read_metrics
from raddino.training.settings import PretrainConfig
from training.conftest import TINY, corpus  # noqa: F401

LAUNCH = Path(__file__).parents[1] / "launch"
SECONDS = 300
VALUES = TINY | {"batch_size": 12, "steps": 40, "checkpoint_every": 20, "vit": TINY["vit"] | {"drop_path": 0.0}}
STAND_INS = {
    "srun": '"$@" & echo $! >> $STAND_INS/pids\n"$@" & echo $! >> $STAND_INS/pids\nstatus=0\n'
    "for one in $(jobs -p); do wait $one || status=$?; done\nexit $status",
    "scancel": '[[ "$*" == "--signal=TERM 7" ]] && kill -TERM $(cat $STAND_INS/pids)',
    "scontrol": 'if [[ $1 == show ]]; then echo localhost; else echo "$*" >> $STAND_INS/requeued; fi',
}
NODE = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "localhost", "SLURM_GPUS_ON_NODE": "1"}


def words(corpus: Corpus, tmp_path: Path, values: dict) -> list[str]:  # noqa: F811
    """Arguments of a run of ``values``."""
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return [
        str(corpus.path), "--out", str(tmp_path / "run"), "--preset", str(tmp_path / "preset.yaml"), "--device", "cpu",
        "--workers", "0",
    ]  # fmt: skip


def environment(more: dict[str, str], *before: Path) -> dict[str, str]:
    path = os.pathsep.join([*map(str, before), str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"OMP_NUM_THREADS": "1", "PATH": path} | more


@pytest.fixture
def slurm(tmp_path):
    """Starts the batch script where ``srun`` runs its command twice, as on two machines."""
    for name, script in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    started = []

    def start(*arguments: str) -> subprocess.Popen:
        (tmp_path / "pids").unlink(missing_ok=True)
        process = subprocess.Popen(
            ["bash", LAUNCH / "slurm.sbatch", *arguments],
            env=environment(NODE | {"STAND_INS": str(tmp_path)}, tmp_path),
            stdout=subprocess.DEVNULL, stderr=(tmp_path / "said").open("ab"),
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        left = [*psutil.Process(process.pid).children(recursive=True), process] if process.poll() is None else []
        for one in left:
            one.kill()
        process.wait()


def test_a_slurm_job_that_runs_out_of_time_saves_queues_again_and_finishes(slurm, corpus, tmp_path):  # noqa: F811
    arguments, said = words(corpus, tmp_path, VALUES), tmp_path / "said"
    process = slurm(*arguments)
    end = time.monotonic() + SECONDS
    while len(read_metrics(tmp_path / "run/metrics.jsonl")) < 3:
        assert process.poll() is None, said.read_text(encoding="utf-8")
        assert time.monotonic() < end, said.read_text(encoding="utf-8")
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(SECONDS) == 0
    assert (tmp_path / "requeued").read_text(encoding="utf-8") == "requeue 7\n"
    assert 0 < latest_step(tmp_path / "run/checkpoints") < VALUES["steps"], said.read_text(encoding="utf-8")
    assert slurm(*arguments).wait(SECONDS) == 0, said.read_text(encoding="utf-8")
    assert latest_step(tmp_path / "run/checkpoints") == VALUES["steps"]
    assert (tmp_path / "requeued").read_text(encoding="utf-8") == "requeue 7\n"
    assert "error:" not in said.read_text(encoding="utf-8")


@pytest.mark.parametrize("status", [0, 3])
def test_a_slurm_job_that_ends_by_itself_does_not_queue_again(slurm, tmp_path, status):
    (tmp_path / "torchrun").write_text(f"#!/bin/bash\nexit {status}\n", encoding="utf-8")
    (tmp_path / "torchrun").chmod(0o755)
    assert slurm("corpus").wait(SECONDS) == status
    assert not (tmp_path / "requeued").exists()


def test_what_slurm_is_asked_for():
    text = (LAUNCH / "slurm.sbatch").read_text(encoding="utf-8")
    asked = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    assert {"--requeue", "--signal=B:USR1@300", "--open-mode=append", "--ntasks-per-node=1"} <= set(asked)
    assert text.index("#SBATCH") < text.index("set -u"), "sbatch stops reading options at the first command"
    assert "--shutdown-timeout=240" in text, "before the 300 s are over"


def job(name: str) -> dict:
    return yaml.safe_load((LAUNCH / name).read_text(encoding="utf-8"))


def pods() -> dict[str, tuple[dict, dict, int]]:
    """By kind: the pod's own settings, the container, and the processes that they say."""
    old, new = job("kubernetes-pytorchjob.yaml")["spec"], job("kubernetes-trainjob.yaml")["spec"]
    master, worker = (old["pytorchReplicaSpecs"][kind] for kind in ("Master", "Worker"))
    assert master["template"] == worker["template"]
    assert master["restartPolicy"] == worker["restartPolicy"] == "OnFailure"
    assert old["runPolicy"]["backoffLimit"] > 0
    pod = master["template"]["spec"]
    (node,) = new["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    patched = node["template"]["spec"]["template"]["spec"]
    assert (node["name"], new["runtimeRef"]) == ("node", {"name": "torch-distributed"})
    trainer = new["trainer"] | patched["containers"][0]
    trainer["resources"] = trainer["resourcesPerNode"]
    return {
        "PyTorchJob": (pod, pod["containers"][0], int(old["nprocPerNode"])),
        "TrainJob": (patched, trainer, new["trainer"]["numProcPerNode"]),
    }


@pytest.mark.parametrize(
    ("file", "kind", "version"),
    [
        ("kubernetes-pytorchjob.yaml", "PyTorchJob", "kubeflow.org/v1"),
        ("kubernetes-trainjob.yaml", "TrainJob", "trainer.kubeflow.org/v1alpha1"),
    ],
)
def test_a_kubernetes_job_says_what_its_operator_reads(file, kind, version):
    assert (job(file)["kind"], job(file)["apiVersion"]) == (kind, version)
    pod, container, processes = pods()[kind]
    assert container["name"] == {"PyTorchJob": "pytorch", "TrainJob": "node"}[kind], "the operator's name"
    assert processes == container["resources"]["limits"]["nvidia.com/gpu"]
    assert {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]} == {
        "data": "/data",
        "memory": "/dev/shm",
    }
    assert {volume["name"] for volume in pod["volumes"]} == {"data", "memory"}
    launcher, *rest = container["command"] + container["args"]
    assert launcher == "torchrun"
    parsed = parse_args(rest)
    assert (parsed.module, parsed.training_script) == (True, "raddino")
    assert parsed.shutdown_timeout < pod["terminationGracePeriodSeconds"], "before Kubernetes kills"
    name, *arguments = parsed.training_script_args
    command = get_command(cli.app).commands[name]
    told = command.make_context(name, list(arguments)).params
    assert [str(path) for path in told["corpora"]] == ["/data/corpus"]
    load_config(PretrainConfig, told["preset"], [])


def test_trainjob_fits_its_published_models():
    models = pytest.importorskip("kubeflow_trainer_api.models")
    told = job("kubernetes-trainjob.yaml")
    read = models.TrainerV1alpha1TrainJob.from_dict(told).to_dict()
    assert read["spec"]["runtimePatches"] == told["spec"]["runtimePatches"]
    assert read["spec"]["trainer"]["command"] == told["spec"]["trainer"]["command"]


def test_two_pods_train_together(corpus, tmp_path):  # noqa: F811
    """With the variables that both operators set, and the command of the files."""
    (_, one, _), (_, other, _) = pods().values()
    assert (one["command"], one["args"]) == (other["command"], other["args"])
    *launcher, _ = one["command"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"PET_NNODES": "2", "PET_NPROC_PER_NODE": "1", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}
    started = [
        subprocess.Popen(
            [*launcher, *words(corpus, tmp_path, VALUES | {"steps": 2})],
            env=environment(told | {"PET_NODE_RANK": rank}), stderr=subprocess.PIPE, encoding="utf-8",
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    for process in started:
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, said
    assert '"processes": 2' in (tmp_path / "run/environment.json").read_text(encoding="utf-8")
    assert latest_step(tmp_path / "run/checkpoints") == 2


RAY = """
import runpy, sys
import ray
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_two_machines_of_a_ray_cluster_train_together(corpus, tmp_path):  # noqa: F811
    pytest.importorskip("ray")
    arguments = ["--nodes", "2", *words(corpus, tmp_path, VALUES | {"steps": 2})]
    done = subprocess.run(
        [sys.executable, "-c", RAY, LAUNCH / "ray_job.py", *arguments],
        env=environment({}), capture_output=True, encoding="utf-8", timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert '"processes": 2' in (tmp_path / "run/environment.json").read_text(encoding="utf-8")
