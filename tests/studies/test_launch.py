"""The templates for SLURM, Kubernetes and SkyPilot: as text, and SLURM's with one node in srun's place."""

import os
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from recipesearch.cli import searching
from recipesearch.plan import Plan
from recipesearch.study.results import open_results
from recipesearch.study.storage import Database

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "studies" / "launch"
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""


def entrypoints() -> Iterator[list[str]]:
    """The words after ``recipesearch`` of each command line of the templates."""
    for file in sorted(LAUNCH.iterdir()):
        for line in file.read_text().splitlines():
            if found := re.search(r"recipesearch (run .*--ray.*?)\s*&?$", line):
                yield found[1].replace('"$1"', "study.yaml").split()


def test_each_template_runs_a_study_on_its_cluster() -> None:
    command: Any = typer.main.get_command(searching.app)
    found = list(entrypoints())
    assert len(found) == len(list(LAUNCH.iterdir())) == 3
    for name, *words in found:
        parsed = command.commands[name].make_context(name, words).params
        assert parsed["ray"] == "auto"
        assert any(text.startswith("engine.workers=") for text in parsed["overrides"])


def test_kubernetes_has_the_ray_of_the_extra() -> None:
    job = yaml.safe_load((LAUNCH / "kuberay.yaml").read_text())["spec"]
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["ray"]
    assert extra == [f"ray=={job['rayClusterSpec']['rayVersion']}"]
    head = job["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}, "the head scores nothing"


def test_sky_installs_what_it_runs() -> None:
    task = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    assert ".[run,vllm,ray]" in task["setup"]
    subprocess.run(["bash", "-n", "-c", task["run"]], check=True)


@pytest.mark.long
def test_the_slurm_job_scores_a_study(make_plan: Callable[..., Plan], tmp_path: Path) -> None:
    """One node: srun and scontrol are stand-ins, Ray and the engine are real."""
    plan = make_plan(search={"sampler": "random", "trials": 6, "seed": 1})
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/bash\necho localhost\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    job = (LAUNCH / "slurm.sbatch").read_text().replace(":6379", f":{port}")
    (tmp_path / "job.sbatch").write_text(job)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NNODES": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    study = plan.folder / f"{plan.name}.yaml"
    done = subprocess.run(
        ["bash", str(tmp_path / "job.sbatch"), str(study)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    assert len(open_results(Database(plan.storage_url))[1].scored) == 6
