"""Where every test gets its device and its precision, and what becomes of tests that need an accelerator."""

import os

import pytest
import torch
from hypothesis import settings

os.environ.pop("COLUMNS", None)  # pytest-xdist fixes it for its workers; tests say how wide their terminal is
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # of processes that tests start; the networks are too small for more
    torch.set_num_threads(1)

# The same examples on every machine and in every run; no timed tests, hence no deadline.
settings.register_profile("amnesty", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("amnesty")


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device(os.environ.get("AMNESTY_TEST_DEVICE", "cpu"))


@pytest.fixture(scope="session")
def dtype() -> torch.dtype:
    return getattr(torch, os.environ.get("AMNESTY_TEST_DTYPE", "float32"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no CUDA device on this machine")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)
