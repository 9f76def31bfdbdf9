"""Settings for the tests of trainers."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Trainers warn of much that is none of our business; our own warnings stay errors."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("error::safeloss.SuspiciousInputWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore"), append=False)
