"""What `mkdocs` calls while it builds the site (`hooks` in `mkdocs.yml`).

Adds the pages that are generated and not committed, leaves out of the navigation what does not
exist yet, shows doctests as plain code with its output, and writes the Markdown of each page beside
it, with an `llms.txt` that lists all.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import error_pages
import reference_pages
import translations
from site_examples import shown

DOCS = Path(__file__).parent
ROOT = DOCS.parent
REPOSITORY = "https://github.com/safeloss/safeloss/blob/main/"

# Pages that stand elsewhere in the repository, and are pages of the site too.
ELSEWHERE = {"changelog.md": "CHANGELOG.md", "how-it-works.md": "safeloss/_runtime/README.md"}

_BEHIND = '!!! note "本页比英文页旧"\n    英文页后来有改动，请以[英文页](%s)为准。\n\n'


def generated() -> Iterator[tuple[str, str]]:
    """The path and the text of each page that is not committed."""
    yield from error_pages.pages()
    yield from reference_pages.pages()
    for page, source in ELSEWHERE.items():
        yield page, (ROOT / source).read_text(encoding="utf-8")


def on_config(config: Any) -> Any:
    """Put all pages into one folder, and fill in the navigation without those that do not exist.

    The plugin of translations reads pages from a folder only.
    """
    pages = Path(config["config_file_path"]).parent / "build" / "pages"
    shutil.copytree(DOCS, pages, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    made = dict(generated())
    for path, text in made.items():
        (pages / path).parent.mkdir(parents=True, exist_ok=True)
        (pages / path).write_text(text, encoding="utf-8")
    config["docs_dir"] = str(pages)
    config["nav"] = _filled(config["nav"], set(made))
    return config


on_config.mkdocs_priority = 100  # before the plugins


def _filled(nav: list[Any], made: set[str]) -> list[Any]:
    """`nav`, which may be filled already: the site is built once for each language."""
    entries: list[Any] = []
    for entry in nav:
        if entry == "trainers/":
            entries += [f"trainers/{page.name}" for page in _english(DOCS / "trainers")]
        elif isinstance(entry, str):
            entries += [entry] if entry in made or (DOCS / entry).exists() else []
        else:
            [(title, value)] = entry.items()
            if isinstance(value, list):
                entries.append({title: _filled(value, made)})
            else:
                entries.append({title: _LISTS[value]() if value in _LISTS else value})
    return entries


def _english(folder: Path) -> list[Path]:
    return sorted(page for page in folder.glob("*.md") if page.suffixes == [".md"])


def error_nav() -> list[Any]:
    """The list of all errors, and each group of them."""
    paths = [
        {title: [error_pages.path(code) for code in codes]} for title, codes in error_pages.groups()
    ]
    return ["errors/index.md", *paths]


_LISTS = {"errors/": error_nav, "reference/": reference_pages.nav}


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Show examples as they are written, and say where a translation is behind."""
    path = page.file.src_uri
    markdown = re.sub(r"\]\(\.\./([A-Z])", rf"]({REPOSITORY}\1", markdown)
    markdown = shown(markdown)
    of = f"docs/{path}" if (DOCS / path).exists() else Path(path).name.partition(".")[0]
    if path.endswith(".zh.md") and of in translations.behind():
        english = config["site_url"] + page.url.partition("zh/")[2]
        markdown = _BEHIND % english + markdown
    page.meta["markdown"] = markdown
    return markdown


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Write the Markdown of the page beside it, for agents."""
    place = Path(config["site_dir"]) / Path(page.file.dest_uri).with_suffix(".md")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(page.meta["markdown"], encoding="utf-8")
    return output


_ENGLISH: dict[str, Any] = {}  # the description and the pages of the site in English


def on_nav(nav: Any, config: Any, files: Any) -> Any:
    """Keep what `llms.txt` is made of: the other languages are built after this one."""
    if config["theme"]["language"] == "en":
        _ENGLISH.update(description=config["site_description"], pages=nav.pages)
    return nav


def on_post_build(config: Any) -> None:
    """Write `llms.txt`: what each page is about, and where its Markdown is."""
    lines = [
        f"# {config['site_name']}",
        "",
        f"> {_ENGLISH['description']}.",
        "",
        "Each page is there as Markdown too. `safeloss explain CODE` prints the page of an error",
        "offline; add `--json` for machines and `--lang zh` for Chinese.",
    ]
    section = None
    for page in _ENGLISH["pages"]:
        top = page.ancestors[-1].title if page.ancestors else ""
        if top != section:
            section = top
            lines += ["", f"## {section}", ""]
        place = config["site_url"] + Path(page.file.dest_uri).with_suffix(".md").as_posix()
        said = page.meta.get("description")
        lines.append(f"- [{page.title}]({place})" + (f": {said}" if said else ""))
    (Path(config["site_dir"]) / "llms.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
