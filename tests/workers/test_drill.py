"""The fault drill, as users run it, over the real vLLM engine."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_fault_drill_passes(zoo: Path) -> None:
    """A crash, a hang, no memory and a broken stream cost one trial each, and nothing is left behind."""
    words = [sys.executable, "scripts/fault_drill.py", "--times", "1", "--limit", "10"]
    done = subprocess.run(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
