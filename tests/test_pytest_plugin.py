"""`pytest --safeloss-guard`, run as a user runs it."""

import os
from pathlib import Path

import pytest

import safeloss

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow

SUITE = """
import pytest
import torch
import torch.nn.functional as F

scores, labels = torch.zeros(8, 1), torch.ones(8)

def broadcast():
    return F.poisson_nll_loss(scores, labels)

def test_healthy():
    F.poisson_nll_loss(labels, labels)

def test_silent():
    broadcast()

def test_again():
    broadcast()

def test_natives_warning():
    with pytest.warns(UserWarning):
        F.mse_loss(scores, labels)

def test_fails_by_itself():
    broadcast()
    assert False, "of its own"

def test_by_hand():
    scores - labels
"""


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(safeloss.__file__).parent.parent)
    monkeypatch.setenv("PYTHONPATH", root, prepend=os.pathsep)


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_suite=SUITE)
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


def test_off_by_default(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess("-p", "safeloss_pytest")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.no_fnmatch_line("*safeloss guard*")


def test_tests_that_broadcast_fail_and_are_listed(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess("-p", "safeloss_pytest", "--safeloss-guard")
    result.assert_outcomes(passed=2, failed=4)
    result.stdout.fnmatch_lines(
        [
            "*= safeloss guard =*",
            "*test_suite.py:8: return F.poisson_nll_loss(scores, labels)",
            "    poisson_nll_loss: input [[]8, 1], target [[]8]",
            "    Fix: *.unsqueeze(1)*",
            "    In test_suite.py::test_silent and 2 more.",
            "*test_suite.py:21: F.mse_loss(scores, labels)",
            "*",
            "*",
            "    In test_suite.py::test_natives_warning.",
            "Native loss calls seen: 5. Lines found: 2.",
        ]
    )
    result.stdout.fnmatch_lines(["FAILED *::test_fails_by_itself - AssertionError: of its own*"])


def test_by_hand_and_allowed(suite: pytest.Pytester) -> None:
    options = ("-p", "safeloss_pytest", "--safeloss-guard-arithmetic")
    suite.runpytest_subprocess(*options).assert_outcomes(passed=1, failed=5)
    allowed = suite.runpytest_subprocess(*options, "--safeloss-guard-allow=*/test_suite.py")
    allowed.assert_outcomes(passed=5, failed=1)


@pytest.mark.parametrize(("option", "loaded"), [((), False), (("--safeloss-guard",), True)])
def test_pytest_starts_without_torch(pytester: pytest.Pytester, option, loaded: bool) -> None:
    pytester.makepyfile(f"import sys\ndef test(): assert ('torch' in sys.modules) is {loaded}")
    result = pytester.runpytest_subprocess("-p", "safeloss_pytest", *option)
    result.assert_outcomes(passed=1)
