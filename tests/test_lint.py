"""What `safeloss lint` finds in the scripts of `beginners/`, and nothing else; its command line."""

import re
from pathlib import Path

import pytest

from safeloss._lint.command import lint
from safeloss._lint.rules import RULES

SCRIPTS = sorted((Path(__file__).parent / "beginners").glob("*.py"))
ALL = frozenset(RULES)
IMPORTS = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n"


def expected(text: str) -> set[tuple[int, str]]:
    """The findings that a script announces, in a comment on their line."""
    return {
        (number, code)
        for number, line in enumerate(text.splitlines(), 1)
        if (match := re.search(r"# expect: (.*)", line))
        for code in match[1].split()
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_has_what_it_says(script: Path) -> None:
    text = script.read_text()
    found = {(one.line, one.code) for one in lint(text, script.name, ALL)}
    assert found == expected(text)


def test_there_is_a_script_for_every_rule() -> None:
    assert len(SCRIPTS) >= 30
    assert {code for script in SCRIPTS for _, code in expected(script.read_text())} == ALL


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.code)
def test_the_example_of_a_rule_is_found_by_it(rule) -> None:
    assert rule.code in {one.code for one in lint(IMPORTS + rule.example, "example.py", ALL)}


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.code)
def test_a_rule_that_is_wrong_too_often_is_off(rule) -> None:
    right, judged = rule.precision
    assert rule.default is (right >= 0.95 * judged)
