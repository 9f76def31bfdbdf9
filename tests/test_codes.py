"""Codes: whatever refuses or warns has one, every code is explained, and `explain` prints it."""

import ast
import json
import os
import pickle
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import safeloss
from safeloss import _explain
from safeloss.__main__ import main
from safeloss._contract import codes, mistakes
from safeloss._contract.model import Mistake
from safeloss._contract.suspicions import Suspicion
from safeloss._contract.values import Rule
from safeloss._lint.rules import RULES
from safeloss._messages import catalogue

PACKAGE = Path(safeloss.__file__).parent
CODES = {name: value for name, value in vars(codes).items() if name.isupper()}


def test_a_code_is_one_kind_of_mistake() -> None:
    assert len(set(CODES.values())) == len(CODES)
    assert all(re.fullmatch(r"SL[1-4]\d\d", code) for code in CODES.values())


def test_every_code_is_explained_and_no_other() -> None:
    assert catalogue.codes() == sorted(CODES.values())
    for language in catalogue.languages():
        for code in _explain.codes():
            assert _explain.entry(code, language).code == code


def test_every_code_is_explained_in_english_and_chinese() -> None:
    assert catalogue.languages() == ["en", "zh"]
    folder = Path(catalogue.__file__).parent / "zh"
    assert sorted(page.stem for page in folder.glob("*.md")) == _explain.codes()
    for code in _explain.codes():
        entry = _explain.entry(code, "zh")
        for text in (entry.title, entry.meaning, entry.advice):
            assert re.search("[\u4e00-\u9fff]{2}", text), code


def test_every_code_is_used() -> None:
    sources = [f for f in PACKAGE.rglob("*.py") if f.name != "codes.py"]
    words = set().union(*(re.findall(r"\w+", file.read_text()) for file in sources))
    assert set(CODES) <= words


def kinds(base: type) -> Iterator[type]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


@pytest.mark.parametrize("base", [Rule, Suspicion])
def test_rules_and_suspicions_have_codes(base: type) -> None:
    found = [kind for kind in kinds(base) if not getattr(kind, "__abstractmethods__", None)]
    assert found
    assert {kind.__name__: getattr(kind, "code", None) in CODES.values() for kind in found} == {
        kind.__name__: True for kind in found
    }


def test_mistakes_have_codes() -> None:
    rows = {name: row for name, row in vars(mistakes).items() if isinstance(row, Mistake)}
    assert [name for name, row in rows.items() if row.code not in CODES.values()] == []


def coded_calls() -> Iterator[tuple[str, list[str]]]:
    """The place of each call that says what is refused or warned of, and the code that it gives."""
    callees = re.compile(r"(Refusal|_mistake|warn_once|(\w*[eE]rror|kind)\.about)$")
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and callees.search(ast.unparse(node.func)):
                given = [ast.unparse(word.value) for word in node.keywords if word.arg == "code"]
                yield f"{file.name}:{node.lineno}", given


def test_nothing_is_refused_or_warned_of_without_a_code() -> None:
    """A type checker says so too, since the parameter is required."""
    found = dict(coded_calls())
    assert len(found) > 50
    named = {*CODES, "code"}  # of the module, or that of a rule
    wrong = [at for at, code in found.items() if not code or code[0].split(".")[-1] not in named]
    assert wrong == []


@pytest.mark.parametrize("code", CODES.values())
def test_the_program_gives_its_code(code: str) -> None:
    program = catalogue.entry(code).program
    assert len([line for line in program.splitlines() if line]) <= 12
    raised: list[object] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            exec(compile(program, f"{code}.py", "exec"), {"__name__": "__main__"})
        except safeloss.SafeLossError as error:
            raised.append(error)
    told = [*raised, *(warning.message for warning in caught)]
    assert [getattr(said, "code", None) for said in told] == [code], told
    assert f"[{code}] " in str(told[0])


@pytest.mark.parametrize("language", catalogue.languages())
@pytest.mark.parametrize("code", _explain.codes())
def test_all_languages_have_the_same_program(code: str, language: str) -> None:
    """But for the comments."""
    programs = [_explain.entry(code, other).program for other in ("en", language)]
    assert len({ast.dump(ast.parse(program)) for program in programs}) == 1


def test_a_code_is_read_from_the_text() -> None:
    made = safeloss.LayoutError.about("Loss", "a rule.", code=codes.DO_NOT_FIT)
    for error in (made, pickle.loads(pickle.dumps(made)), safeloss.LayoutError(str(made))):
        assert error.code == "SL101"
        assert str(error) == "[SL101] Loss: a rule."
    assert safeloss.SuspiciousInputWarning("[SL331] Loss: so.").code == "SL331"
    assert safeloss.LayoutError("of somebody else").code == ""
    assert safeloss.LayoutError().code == ""


def test_warnings_are_filtered_by_code() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", r"\[SL321\]")
        assert safeloss.SafeMSELoss()(torch.zeros(0), torch.zeros(0)).isnan()


def test_what_the_pages_say_of_torch() -> None:
    scores = torch.randn(4, requires_grad=True)
    assert F.poisson_nll_loss(torch.randn(8, 1), torch.rand(8), reduction="none").shape == (8, 8)
    assert F.cross_entropy(torch.randn(3, 1), torch.zeros(3).long()) == 0
    low = F.binary_cross_entropy_with_logits(torch.full((4,), -99.0), torch.full((4,), -1.0))
    assert low < -90
    F.soft_margin_loss(scores, torch.zeros(4)).backward()
    assert not scores.grad.any(), "nothing"
    both = F.hinge_embedding_loss(torch.full((4,), 0.25), torch.zeros(4))
    assert both == 0.25 + 0.75, "something wrong"
    assert F.nll_loss(torch.tensor([[2.0, -1.0]]), torch.tensor([0])) == -2
    x, pair = torch.randn(2, 4), torch.tensor([[0, 1, -1, -1]] * 2)
    assert F.multilabel_margin_loss(x, torch.tensor([[0, 1, 1, 1]] * 2)) != 0
    assert F.multilabel_margin_loss(x, pair).isfinite()
    weight, image = torch.rand(8), torch.randn(2, 3, 8, 8)
    weighted = F.binary_cross_entropy_with_logits(image, image.sigmoid(), weight, reduction="none")
    plain = F.binary_cross_entropy_with_logits(image, image.sigmoid(), reduction="none")
    assert torch.equal(weighted, plain * weight)
    target = torch.rand(4, 3).softmax(1)
    ignoring = F.cross_entropy(torch.zeros(4, 3), target, ignore_index=-1)
    assert torch.equal(ignoring, F.cross_entropy(torch.zeros(4, 3), target))
    row = torch.randn(5).log_softmax(0), torch.randn(5).softmax(0)
    divided = F.kl_div(*row, reduction="batchmean")
    assert torch.isclose(divided * 5, F.kl_div(*row, reduction="sum"))
    steps = torch.randn(3, 1, 5).log_softmax(-1)
    lengths = torch.tensor([3]), torch.tensor([3])
    assert F.ctc_loss(steps, torch.tensor([[1, 1, 2]]), *lengths).isinf()
    assert torch.finfo(torch.float16).max == 65504


# The command -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the locale of who runs the suite."""
    monkeypatch.setenv("LC_ALL", "en_US.UTF-8")


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["explain", *arguments]) == 0
    return capsys.readouterr().out


def test_alone_it_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    lines = explained(capsys).splitlines()
    assert [line.split("  ")[0] for line in lines] == _explain.codes()
    assert [entry["code"] for entry in json.loads(explained(capsys, "--json"))] == _explain.codes()


def test_the_rules_of_lint_are_explained_too(capsys: pytest.CaptureFixture[str]) -> None:
    for code, rule in RULES.items():
        page = explained(capsys, code)
        assert page.startswith(f"# {code}: {rule.title}\n\n{rule.meaning}\n")
        assert f"```python\n{rule.example}\n```\n" in page
        assert page.endswith(f"\n\n{rule.fix}\n")
    assert not {*RULES} & {*CODES.values()}


@pytest.mark.parametrize("written", ["SL101", "sl101", "[SL101]"])
def test_a_code_is_explained(written: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = explained(capsys, written, "--lang", "en")
    entry = json.loads(explained(capsys, written, "--json"))
    assert page.startswith(f"# SL101: {entry['title']}\n")
    for part in ("meaning", "program", "advice"):
        assert entry[part] in page


LOCALES = {
    "zh_CN.UTF-8": "zh",
    "zh_TW": "zh",
    "en_US.UTF-8": "en",
    "de_DE": "en",
    "C": "en",
    "C.UTF-8": "en",
}


@pytest.mark.parametrize("name", LOCALES)
@pytest.mark.parametrize("variable", ["LC_ALL", "LC_MESSAGES", "LANG"])
def test_the_language_is_that_of_the_locale(
    variable: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for each in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(variable, name)
    assert explained(capsys, "SL331") == _explain.entry("SL331", LOCALES[name]).page
    assert explained(capsys, "SL331", "--lang", "en") == _explain.entry("SL331", "en").page


@pytest.mark.parametrize("name", ["Chinese (Simplified)_China", "zh_CN", "de_DE", None])
def test_the_language_where_no_variable_says_it(name: str | None, monkeypatch) -> None:
    """As on Windows."""
    for each in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setattr("locale.getlocale", lambda: (name, None))
    chinese = name is not None and name.lower().startswith(("zh", "chinese"))
    assert _explain.language() == ("zh" if chinese else "en")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "gbk", "utf-8"])
def test_chinese_is_printed_whatever_the_encoding(encoding: str) -> None:
    command = [sys.executable, "-m", "safeloss", "explain", "SL203", "--lang", "zh"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    printed = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    page = _explain.entry("SL203", "zh").page
    assert printed.decode("gbk" if encoding == "gbk" else "utf-8").splitlines() == page.splitlines()


UNKNOWN = {"SL10": "did you mean SL10", "SL110": "did you mean", "cat": "lists all codes"}


@pytest.mark.parametrize("written", UNKNOWN)
def test_an_unknown_code_exits_with_a_hint(
    written: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["explain", written])
    assert ended.value.code == 2
    assert UNKNOWN[written] in capsys.readouterr().err


def test_a_page_of_another_order_is_an_error(monkeypatch, tmp_path: Path) -> None:
    folder = tmp_path / "en"
    folder.mkdir()
    (folder / "SL101.md").write_text("# SL101: A title\n\nAnd no program.\n")
    monkeypatch.setattr(catalogue, "_FOLDERS", tmp_path)
    with pytest.raises(ValueError, match="another order"):
        catalogue.entry("SL101")
