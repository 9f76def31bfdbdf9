"""The pages of errors on the site: one for each code, of what `safeloss explain` says.

A page has PyTorch's own text as its title, where PyTorch says something, since that is what people
search for.
"""

from collections.abc import Iterator, Mapping

from torch_says import said_of

from safeloss import _explain

# The first two characters after "SL", and the section of the navigation.
GROUPS = {
    "1": "Shapes, dtypes and arguments",
    "2": "Source code",
    "3": "Numbers",
    "4": "Before training",
}

WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "prints": "What PyTorch prints",
        "from": "from",
        "unsaid": "PyTorch does not say anything of its own about this.",
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
        "from": "来自",
        "unsaid": "对于这种错误，PyTorch 自己没有任何提示。",
        "numbers": "这类信息里的数字就是你自己的张量的大小。",
        "explain": "不联网也可以在自己的机器上查看",
        "lint": "`safeloss lint` 不用运行代码，就能在源代码里找到它。",
        "index": "报错信息",
        "lead": "safeloss 的每条报错和警告都以一个代码开头。请按代码查找，"
        "或者按 PyTorch 打印的信息查找（其中的数字是你自己的张量的大小）；"
        "也可以用页面上方的搜索框。",
        "by text": "按 PyTorch 打印的信息查找",
        "by code": "按代码查找",
        "text": "信息",
        "code": "代码",
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
        "---",
        f"# {_escaped(title)}" if said else f"# {code}: {entry.title}",
        "",
        *([f"**{code}: {entry.title}**", ""] if said else []),
        body,
        "",
        f"## {words['prints']}",
        "",
    ]
    for one in said:
        lines += ["```text", one.text, "```", f"{words['from']} `{one.program}`", ""]
    lines += [words["numbers"] if said else words["unsaid"], ""]
    if code.startswith("SL2"):
        lines += [words["lint"], ""]
    flag = "" if language == "en" else f" --lang {language}"
    lines += [f"{words['explain']}: `safeloss explain {code}{flag}`", ""]
    return "\n".join(lines)


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
