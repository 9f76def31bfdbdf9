"""The pages of errors on the site: one for each code, of what `safeloss explain` says.

A page has PyTorch's own text as its title, where PyTorch says something, since that is what people
search for.
"""

from collections.abc import Iterator, Mapping

import torch_says
from torch_says import said_of

from safeloss import _explain

# The first digit of a code, and the section of the navigation.
GROUPS = {
    "1": "Shapes, dtypes and arguments",
    "2": "Source code",
    "3": "Numbers",
    "4": "Before training",
}

MOST_FREQUENT = "SL105"  # `[B, 1]` with `[B]`: the search gives it before others of the same text

WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "prints": "What PyTorch prints",
        "from": "This text comes from",
        "others": "PyTorch prints the same text for other reasons too",
        "numbers": "The numbers in such a text are the sizes of your own tensors.",
        "explain": "The same on your own machine, without a network",
        "lint": "`safeloss lint` finds it in source code, without running it.",
        "index": "Errors",
        "lead": "Every message and every warning of safeloss begins with a code. Look for it, "
        "or for the text that PyTorch printed (the numbers are the sizes of your own tensors); "
        "the search at the top of the page finds both.",
        "by text": "By the text that PyTorch prints",
        "by code": "By code",
        "text": "text",
        "code": "code",
        "means": "what it means",
    },
    "zh": {
        "prints": "PyTorch 打印的信息",
        "from": "这条信息来自",
        "others": "PyTorch 打印同样的信息，也可能是别的原因",
        "numbers": "这类信息里的数字就是你自己的张量的大小。",
        "explain": "不联网也可以在自己的机器上查看",
        "lint": "`safeloss lint` 不用运行代码，就能在源代码里找到它。",
        "index": "报错信息",
        "lead": "safeloss 的每条报错和警告都以一个错误代码开头。请按错误代码查找，"
        "或者按 PyTorch 打印的信息查找（其中的数字是你自己的张量的大小）；"
        "也可以用页面上方的搜索框。",
        "by text": "按 PyTorch 打印的信息查找",
        "by code": "按错误代码查找",
        "text": "信息",
        "code": "错误代码",
        "means": "含义",
    },
}


def path(code: str) -> str:
    """The page of a code in the docs."""
    return f"errors/{code}.md"


def groups() -> Iterator[tuple[str, list[str]]]:
    """The titles of the groups that have codes, with these."""
    for digit, title in GROUPS.items():
        if codes := [code for code in _explain.codes() if code[2] == digit]:
            yield title, codes


def page(code: str, language: str) -> str:
    """The page of one code, in Markdown."""
    entry, words, said = _explain.entry(code, language), WORDS[language], said_of(code)
    body = entry.page.partition("\n\n")[2].rstrip("\n")
    title = said[0].text if said else entry.title
    lines = [
        "---",
        f"title: {_quoted(f'{code}: {entry.title}')}",
        f"description: {_quoted(f'{title} ({code})' if said else entry.title)}",
        *(["search:", "  boost: 2"] if code == MOST_FREQUENT else []),
        "---",
        f"# {_escaped(title)}" if said else f"# {code}: {entry.title}",
        "",
        *([f"**{code}: {entry.title}**", ""] if said else []),
        *_others(code, language),
        body,
        "",
        *([f"## {words['prints']}", ""] if said else []),
    ]
    for one in said:  # in headings, which the search ranks first; it does not read blocks of code
        heading = [] if one is said[0] else [f"### {_escaped(one.text)}", ""]
        lines += [*heading, f"{words['from']} `{one.program}`", ""]
    if any(character.isdigit() for one in said for character in one.text):
        lines += [words["numbers"], ""]
    if code.startswith("SL2"):
        lines += [words["lint"], ""]
    flag = "" if language == "en" else f" --lang {language}"
    lines += [f"{words['explain']}: `safeloss explain {code}{flag}`", ""]
    return "\n".join(lines)


def _others(code: str, language: str) -> list[str]:
    """Links to the other codes whose PyTorch text differs from this title in its numbers only."""
    titles = [torch_says.form(said.text) for said in said_of(code)[:1]]
    others = [said.code for said in torch_says.SAID if torch_says.form(said.text) in titles]
    links = [
        f"[{other}: {_explain.entry(other, language).title}]({other}.md)"
        for other in dict.fromkeys(others)
        if other != code
    ]
    return [f"{WORDS[language]['others']}: {'; '.join(links)}", ""] if links else []


def index(language: str) -> str:
    """The list of all codes, and of PyTorch's texts."""
    words = WORDS[language]
    lines = [f"# {words['index']}", "", words["lead"], "", f"## {words['by text']}", ""]
    lines += [f"| {words['text']} | {words['code']} |", "|---|---|"]
    for code in _explain.codes():
        lines += [f"| {_escaped(one.text)} | [{code}]({code}.md) |" for one in said_of(code)]
    lines += ["", f"## {words['by code']}", ""]
    lines += [f"| {words['code']} | {words['means']} |", "|---|---|"]
    for code in _explain.codes():
        lines.append(f"| [{code}]({code}.md) | {_explain.entry(code, language).title} |")
    return "\n".join([*lines, ""])


def pages() -> Iterator[tuple[str, str]]:
    """The paths in the docs, and what stands there."""
    for language in WORDS:
        suffix = "" if language == "en" else f".{language}"
        yield f"errors/index{suffix}.md", index(language)
        for code in _explain.codes():
            yield path(code).replace(".md", f"{suffix}.md"), page(code, language)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    """So that Markdown reads brackets, underscores and quotes as themselves."""
    for character in "\\[]_*#":
        text = text.replace(character, f"\\{character}")
    return text
