"""The pages of the site: what PyTorch is said to print, formulas, references and translations."""

import builtins
import re
import warnings
from email.message import Message
from pathlib import Path

import distributions
import error_pages
import formulas
import pytest
import reference_pages
import torch
import torch_says
import translations
from site_examples import shown
from torch.nn import functional as F

import safeloss
from safeloss import _explain
from safeloss._version import __version__

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.skipif(
    not torch.__version__.startswith("2.13"), reason="the pages say what this release prints"
)
@pytest.mark.parametrize("said", torch_says.SAID, ids=lambda said: f"{said.code}: {said.text[:40]}")
def test_pytorch_prints_what_the_pages_say(said: torch_says.Said) -> None:
    printed = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            eval(said.program, {"torch": torch, "nn": torch.nn, "F": F, "x": torch.ones(4)})
        except Exception as error:
            printed.append(str(error))
    printed += [str(warning.message) for warning in caught]
    assert any(said.text in " ".join(text.split()) for text in printed), printed
    assert said.code in _explain.codes()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("code", _explain.codes())
def test_every_code_has_a_page(code: str, language: str) -> None:
    pages = dict(error_pages.pages())
    page = pages[f"errors/{code}{'' if language == 'en' else '.zh'}.md"]
    entry, said = _explain.entry(code, language), torch_says.said_of(code)
    [title] = re.findall(r"^# (.+)$", page.partition("```")[0], re.MULTILINE)
    assert title.replace("\\", "") == (said[0].text if said else f"{code}: {entry.title}")
    for part in (entry.title, entry.meaning, entry.program, entry.advice):
        assert part in page
    index = pages[f"errors/index{'' if language == 'en' else '.zh'}.md"]
    assert index.count(f"[{code}]({code}.md)") == 1 + len(said)


def test_every_code_is_in_a_group() -> None:
    grouped = [code for _, codes in error_pages.groups() for code in codes]
    assert grouped == _explain.codes()


# The reference ------------------------------------------------------------------------------------


def test_every_loss_of_torch_has_a_formula() -> None:
    losses = {"MultiLabelBCE", *(safe.__name__ for safe in safeloss.SAFE.values())}
    assert losses <= set(formulas.FORMULAS)


@pytest.mark.parametrize("name", formulas.FORMULAS)
def test_the_formula_is_what_the_loss_computes(name: str) -> None:
    if not hasattr(safeloss, name):
        pytest.skip("not in this torch")
    example, formula, _ = formulas.FORMULAS[name]
    given, names = reference_pages.run(example)
    known = {**vars(F), **vars(torch), "sum": builtins.sum, **names}
    torch.testing.assert_close(torch.as_tensor(eval(formula, known)), given)


def test_every_public_name_is_in_the_reference() -> None:
    pages = dict(reference_pages.pages())
    for name in safeloss.__all__:
        if name != "__version__":
            place = reference_pages.place(name)
            assert f"| [`{name}`]({place}) | " in pages["reference/index.md"]
            page, _, anchor = place.partition("#")
            text = pages[f"reference/{page}"]
            assert not anchor or f"::: {anchor}\n" in text or f"#{anchor} }}" in text
    rows = re.findall(r"^\| \[`.+?\) \| (.*) \|$", pages["reference/index.md"], re.MULTILINE)
    assert len(rows) == len(safeloss.__all__) - 1
    assert all(len(sentence) > 10 for sentence in rows)


def test_every_layout_is_in_the_reference() -> None:
    names = [name for name in vars(safeloss.layouts) if name in reference_pages.layout_names()]
    assert len(names) > 40
    assert "ClassScores" in names
    for name in names:
        assert re.search(r"`\[.*\]`", reference_pages.layout(name)), name


def test_an_example_is_shown_as_code_and_what_it_prints() -> None:
    page = "A.\n\n```python\n>>> 1 + 1\n2\n>>> x = 3  # doctest: +SKIP\n>>> x\n3\n\n```\n\nB.\n"
    assert shown(page) == (
        "A.\n\n```python\n1 + 1\n```\n\n```text { .output }\n2\n```\n\n"
        "```python\nx = 3\nx\n```\n\n```text { .output }\n3\n```\n\nB.\n"
    )
    assert shown("```python\nx = 1\n```\n") == "```python\nx = 1\n```\n"


# Translations -------------------------------------------------------------------------------------


def test_the_pages_for_beginners_are_there_in_chinese() -> None:
    wanted = ["index", "not-learning", "which-loss", "limits"]
    pages = translations.pages()
    assert {"README.zh.md", *(f"docs/{name}.zh.md" for name in wanted)} <= set(pages)
    assert set(_explain.codes()) <= set(pages)


def test_translations_are_recorded() -> None:
    """`python docs/translations.py PAGE ...` records the English text that a page was made of."""
    assert sorted(translations.record()) == sorted(translations.pages())


def test_no_translation_is_behind() -> None:
    """It does not fail: an English page may be mended by somebody who has no Chinese."""
    behind = translations.behind()
    if behind:
        pytest.skip(f"pages in Chinese that are older than the English ones: {', '.join(behind)}")


def test_a_translation_is_behind_when_the_english_changes(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    english, chinese = tmp_path / "docs" / "a.md", tmp_path / "docs" / "a.zh.md"
    english.write_text("One.\n<!-- t -->\n1\n<!-- end of t -->\n")
    chinese.write_text("一。\n")
    monkeypatch.setattr(translations, "ROOT", tmp_path)
    monkeypatch.setattr(translations, "RECORD", tmp_path / "record.json")
    translations.accept(translations.pages())
    assert translations.behind() == []
    english.write_text("One.\n<!-- t -->\n2\n<!-- end of t -->\n")
    assert translations.behind() == [], "what is generated changes by itself"
    english.write_text("Two.\n")
    assert translations.behind() == ["docs/a.zh.md"]


@pytest.mark.parametrize("page", [p for p in translations.pages() if p.endswith(".zh.md")])
def test_a_page_in_chinese_has_the_code_of_the_english_one(page: str) -> None:
    """The examples but for their comments, and links to the same pages."""
    texts = [(translations.ROOT / name).read_text() for name in (page, page.replace(".zh", ""))]
    for fence in (r"```python\n(.*?)```", r"```(?:diff|sh)\n(.*?)```"):
        blocks = [re.findall(fence, text, re.DOTALL) for text in texts]
        plain = [[re.sub(r" *# .*", "", code) for code in each] for each in blocks]
        assert plain[0] == plain[1]
    links = [set(re.findall(r"\]\(([^)#]+)", text)) for text in texts]
    assert {link.replace("/zh/", "/").replace(".zh.md", ".md") for link in links[0]} == {
        link.replace("README.zh.md", "README.md") for link in links[1]
    }


def test_the_changelog_has_this_version() -> None:
    [newest, *_] = re.findall(r"^## \[([\d.]+)\]", (DOCS.parent / "CHANGELOG.md").read_text(), re.M)
    assert newest == __version__


# Distributions ------------------------------------------------------------------------------------


def metadata(**changed: str) -> Message:
    made = Message()
    lines = {
        "Version": __version__,
        "Project-URL": "Documentation, https://safeloss.github.io/safeloss/",
        "Description-Content-Type": "text/markdown",
    }
    for name, value in (lines | changed).items():
        made[name] = value
    for name in ("torch>=2.6", "jaxtyping", "beartype", 'rich>=13; extra == "demo"'):
        made["Requires-Dist"] = name
    return made


def in_the_wheel() -> list[str]:
    package = Path(safeloss.__file__).parent
    files = [path.relative_to(package.parent) for path in package.rglob("*.*") if path.is_file()]
    return ["safeloss_pytest.py", *[file.as_posix() for file in files if "__py" not in str(file)]]


def test_a_good_wheel_has_no_problems() -> None:
    assert distributions.wheel_problems(in_the_wheel(), metadata(), "[a](https://a.b)") == []


@pytest.mark.parametrize(
    ("names", "changed", "readme", "problem"),
    [
        (["benchmarks/run.py"], {}, "", "benchmarks/run.py is in the wheel"),
        (["safeloss/test_a.py"], {}, "", "safeloss/test_a.py is in the wheel"),
        ([], {"Version": "0"}, "", "the version is 0"),
        ([], {"Project-URL": "Source, https://github.com"}, "", "no URL of the documentation"),
        ([], {"Description-Content-Type": "text/x-rst"}, "", "Markdown"),
        ([], {"Requires-Dist": "numpy"}, "", "it needs ['beartype'"),
        ([], {}, "[why](docs/why.md)", "cannot follow docs/why.md"),
    ],
)
def test_a_bad_wheel_has_a_problem(names, changed, readme: str, problem: str) -> None:
    found = distributions.wheel_problems([*in_the_wheel(), *names], metadata(**changed), readme)
    assert len(found) == 1
    assert problem in found[0]


def test_what_a_wheel_lacks_is_a_problem() -> None:
    names = [name for name in in_the_wheel() if not name.endswith(("py.typed", "zh/SL101.md"))]
    found = distributions.wheel_problems(names, metadata(), "")
    assert found == [
        "safeloss/py.typed is not in the wheel",
        "safeloss/_messages/catalogue/zh/SL101.md is not in the wheel",
    ]
