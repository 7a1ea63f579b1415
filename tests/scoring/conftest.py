import json

import pytest
import yaml


@pytest.fixture
def task_file(tmp_path):
    """A function (name, settings, documents) -> the path of a task over the documents."""

    def write(name, settings, documents):
        data = tmp_path / f"{name}.jsonl"
        data.write_text("".join(json.dumps(document) + "\n" for document in documents))
        config = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test",
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config | settings))
        return str(path)

    return write
