"""What `safeloss lint` finds in the scripts of `beginners/`, and nothing else; its command line."""

import json
import re
import sys
from pathlib import Path

import pytest

from safeloss.__main__ import main
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


# ---- what was measured


def test_the_page_and_the_rules_say_what_was_judged() -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent))  # for the benchmarks
    from benchmarks import repositories

    record = json.loads(repositories.RECORD.read_text())
    text = (repositories.DOCS / "migrate.md").read_text()
    assert repositories.page(text, record) == text
    assert repositories.precision(record) == {rule.code: rule.precision for rule in RULES.values()}
    assert all("right" in row for package in record.values() for row in package["lint"])
    done = [package["migrate"] for package in record.values() if "migrate" in package]
    assert len(done) >= 10
    assert all(package["compiled"] and package["idempotent"] for package in done)


# ---- the command line

SQUEEZED = IMPORTS + "loss = F.cross_entropy(x.squeeze(), y)\n"


def test_the_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a,b.py").write_text(SQUEEZED)
    assert main(["lint", "."]) == 1
    assert capsys.readouterr().out.startswith("a,b.py:4:24: SL203 squeeze() ")
    assert main(["lint", ".", "--format", "json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert list(row) == ["path", "line", "column", "code", "message"]
    assert (row["path"], row["line"], row["column"], row["code"]) == ("a,b.py", 4, 24, "SL203")
    assert main(["lint", ".", "--format", "github"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("::warning file=a%2Cb.py,line=4,col=24,title=SL203::squeeze() ")


def test_no_finding_is_an_empty_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(tmp_path), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("select", "code"), [("SL203", 1), ("sl201, sl203", 1), ("SL201", 0), ("all", 1)]
)
def test_rules_are_selected(select: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(SQUEEZED)
    assert main(["lint", str(tmp_path), "--select", select]) == code


def test_what_is_off_is_found_only_by_name(tmp_path: Path) -> None:
    off = [rule for rule in RULES.values() if not rule.default]
    assert off
    for rule in off:
        (tmp_path / "a.py").write_text(IMPORTS + rule.example + "\n")
        assert main(["lint", str(tmp_path)]) == 0
        assert main(["lint", str(tmp_path), "--select", rule.code]) == 1


@pytest.mark.parametrize("arguments", [["--select", "SL999", "."], ["nothing-there"], []])
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["lint", *arguments])
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert "SL999" in capsys.readouterr().err or "SL999" not in arguments


@pytest.mark.parametrize(
    ("comment", "ignored"),
    [
        ("# safeloss: ignore[SL203]", True),
        ("# safeloss: ignore[SL201, SL203]  # why", True),
        ("# safeloss:ignore", True),
        ("# safeloss: ignore[SL201]", False),
        ("# safeloss: ignore[]", False),
    ],
)
def test_a_line_is_ignored_by_code(comment: str, ignored: bool) -> None:
    assert (not lint(SQUEEZED.replace("y)", f"y)  {comment}"), "a.py", ALL)) is ignored


def notebook(*cells: str) -> str:
    """A notebook with a heading and these code cells."""
    code = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    return json.dumps({"cells": [{"cell_type": "markdown", "source": ["# x.squeeze()"]}, *code]})


CELLS = ("%matplotlib inline\n" + IMPORTS, "p = x.softmax(1)\n", "!ls\n\nF.cross_entropy(p, y)")


def test_a_notebook_is_one_program(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.ipynb").write_text(notebook(*CELLS))
    assert main(["lint", "."]) == 1
    assert capsys.readouterr().out.startswith("a.ipynb:cell 2:1:5: SL201 this softmax")
    assert main(["lint", ".", "--format", "github"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("::warning file=a.ipynb,title=SL201::cell 2, line 1: this softmax")
    Path("a.ipynb").write_text(
        notebook(CELLS[0], SQUEEZED + "\n# end", "F.nll_loss(x.squeeze(), y)")
    )
    assert main(["lint", ".", "--format", "json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [(row["path"], row["line"], row["column"]) for row in rows] == [
        ("a.ipynb:cell 2", 4, 24),
        ("a.ipynb:cell 3", 1, 12),
    ]
    Path("a.ipynb").write_text('{"cells": "F.cross_entropy torch"}')
    assert main(["lint", "."]) == 0
    assert "a.ipynb: skipped: is no notebook" in capsys.readouterr().err


# What must not be followed, since it is not certain.
UNCERTAIN = [
    "def f(x, y, flag):\n    if flag:\n        x = x.softmax(1)\n    return F.cross_entropy(x, y)",
    "def f(model, x, y):\n    return F.cross_entropy(model(x), y)",
    "def f(x, y):\n    p = x.softmax(1)\n    p = other(p)\n    return F.cross_entropy(p, y)",
    "def f(F, x, y):\n    return F.cross_entropy(x.softmax(1), y)",
    "x = x.log_softmax(1)\nF.cross_entropy(x, y)",
    "F.cross_entropy(x, y.softmax(1))",
    "for x in data:\n    F.cross_entropy(p, y)\n    p = x.softmax(1)",
    "x = x.softmax(1)\nx += 1\nF.cross_entropy(x, y)",
    "F.cross_entropy(*both)\nF.kl_div(*both)\nnn.KLDivLoss(**options)\nnn.Softmax(*args)",
    "crit = nn.MSELoss()\nif late:\n    crit = nn.CrossEntropyLoss()\ncrit(x.softmax(1), y)",
]


@pytest.mark.parametrize("source", UNCERTAIN)
def test_what_is_not_certain_is_not_found(source: str) -> None:
    assert lint(IMPORTS + source + "\n", "a.py", ALL) == []


FOLLOWED = [
    "with torch.no_grad():\n    p = x.softmax(1)\nF.cross_entropy(p.float()[:, :3], y)",
    "p = F.softmax(x, 1)\nq = p\nnn.CrossEntropyLoss()(input=q, target=y)",
    "from safeloss import functional as SF\nSF.cross_entropy(torch.sigmoid(x), y)",
    "import safeloss\nloss = safeloss.SafeCrossEntropyLoss().to('cuda')\nloss(x.sigmoid(), y)",
    "net = torch.compile(nn.Sequential(nn.Linear(1, 2), nn.Softmax(1), nn.Flatten()))\n"
    "F.cross_entropy(net(x), y)",
]


@pytest.mark.parametrize("source", FOLLOWED)
def test_what_is_certain_is_followed(source: str) -> None:
    assert [one.code for one in lint(IMPORTS + source + "\n", "a.py", ALL)] == ["SL201"]
