"""Looks into the wheel and the sdist in `dist`: `make dist` builds and checks them."""

import email
import re
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

from safeloss import _explain
from safeloss._messages import catalogue
from safeloss._version import __version__

DIST = Path(__file__).parent.parent / "dist"


def wheel_problems(names: list[str], metadata: Message, readme: str) -> list[str]:
    """What is wrong with a wheel of these files."""
    wanted = ["safeloss/py.typed", "safeloss/__init__.pyi", "safeloss_pytest.py"]
    for language in catalogue.languages():
        codes = catalogue.codes() if language == "en" else _explain.codes()
        wanted += [f"safeloss/_messages/catalogue/{language}/{code}.md" for code in codes]
    problems = [f"{name} is not in the wheel" for name in wanted if name not in names]
    ours = re.compile(r"safeloss/|safeloss_pytest\.py$|safeloss-[^/]+\.dist-info/")
    problems += [f"{name} is in the wheel" for name in names if not ours.match(name)]
    tests = re.compile(r"(^|/)(tests?/|test_|conftest)")
    problems += [f"{name} is in the wheel" for name in names if tests.search(name)]
    if metadata["Version"] != __version__:
        problems.append(f"the version is {metadata['Version']}, not {__version__}")
    urls = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL", []))
    if "github.io/safeloss" not in urls.get("Documentation", ""):
        problems.append("there is no URL of the documentation")
    if metadata["Description-Content-Type"] != "text/markdown":
        problems.append("the README is not said to be Markdown")
    links = re.findall(r"\]\(([^)#]+)", readme)
    problems += [f"a package page cannot follow {at}" for at in links if "://" not in at]
    lines = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    needed = {re.split(r"[ <>=!;]", line)[0] for line in lines}
    if needed != {"torch", "jaxtyping", "beartype"}:
        problems.append(f"it needs {sorted(needed)}")
    return problems


def sdist_problems(names: list[str]) -> list[str]:
    """What is missing in an sdist of these files."""
    inside = {name.partition("/")[2] for name in names}
    wanted = ["README.md", "README.zh.md", "LICENSE", "CHANGELOG.md", "Makefile", "mkdocs.yml"]
    wanted += ["pyproject.toml", "constraints.txt", "tests/losses.py", "docs/index.md"]
    return [f"{name} is not in the sdist" for name in wanted if name not in inside]


def main() -> int:
    """Print what is wrong, and return 1 if anything is."""
    [wheel], [sdist] = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        [at] = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(opened.read(at))
    with tarfile.open(sdist) as archive:
        problems = sdist_problems(archive.getnames())
    problems += wheel_problems(names, metadata, str(metadata.get_payload()))
    print("\n".join(problems) or f"{wheel.name} and {sdist.name} are as they should be")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
