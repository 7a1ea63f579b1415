import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from pathlib import Path

import pytest

from recipesearch.zoo import build_zoo


@pytest.fixture(scope="session")
def zoo() -> Path:
    """The zoo of seed 0 in the user's cache: the first test run trains it, in about a minute."""
    return build_zoo()
