"""Doctests as the site shows them: code that can be copied, and below it what it prints."""

import doctest
import re

_FENCE = re.compile(r"^( *)```python\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def plain(examples: str) -> str:
    r"""Markdown for a doctest.

    >>> print(plain(">>> x = 1\n>>> x\n1\n"))
    ```python
    x = 1
    x
    ```
    <BLANKLINE>
    ```text { .output }
    1
    ```
    """
    parts: list[tuple[str, str]] = []
    for example in doctest.DocTestParser().get_examples(examples):
        source = re.sub(r"[ ]+# doctest:.*", "", example.source)
        want = example.want.replace("<BLANKLINE>", "")
        want = want.removeprefix("Traceback (most recent call last):\n")
        if parts and not parts[-1][1]:
            parts[-1] = (parts[-1][0] + source, want)
        else:
            parts.append((source, want))
    fences = []
    for source, want in parts:
        fences.append(f"```python\n{source.rstrip()}\n```")
        if want:
            fences.append(f"```text {{ .output }}\n{want.rstrip()}\n```")
    return "\n\n".join(fences)


def shown(page: str) -> str:
    """A page with all its doctests as they are shown."""

    def fence(found: "re.Match[str]") -> str:
        indent, block = found[1], found[2]
        if ">>> " not in block:
            return found[0]
        lines = plain(re.sub(rf"^{indent}", "", block, flags=re.MULTILINE)).split("\n")
        return "\n".join(indent + line if line else "" for line in lines)

    return _FENCE.sub(fence, page)
