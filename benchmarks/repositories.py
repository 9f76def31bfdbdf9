"""`migrate` and `lint` on packages of PyPI: `python -m benchmarks.repositories --folder FOLDER`.

It fetches the packages by name, so it is no part of CI. The record is `docs/migrate.json`, and
`docs/migrate.md` has its tables, which `--page` writes from the record alone. What a person thinks
of a finding (`judged`) is kept in the record from run to run.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from safeloss._lint import command as lint
from safeloss._lint.rules import RULES
from safeloss._migrate import command as migrate
from safeloss._source import files
from safeloss._source.table import words

DOCS = Path(__file__).parent.parent / "docs"
RECORD = DOCS / "migrate.json"

# What is migrated, and what is only linted: among them code of research and of teaching.
MIGRATED = sorted(
    words("""
    accelerate anomalib asteroid braindecode catalyst darts deepctr-torch fastai flair kornia
    lightly mmsegmentation monai neuralforecast peft pycox pytorch-forecasting
    pytorch-metric-learning pytorch-tabnet recbole segmentation-models-pytorch
    sentence-transformers simpletransformers skorch speechbrain super-gradients timm torchgeo
    torchmetrics trl
""")
)
LINTED = sorted(
    words("""
    adversarial-robustness-toolbox allennlp avalanche-lib captum chemprop cleanlab coqui-tts
    d2l deepchem dgllife easyfsl espnet libauc lightning-bolts nnunetv2 opacus pykeen pyhealth
    pythae pytorch-toolbelt pytorch-widedeep scvi-tools stable-baselines3 textattack
    torchattacks torchxrayvision transformers tsai ultralytics
""")
)


def fetch(name: str, folder: Path) -> tuple[Path, str] | None:
    """The unpacked newest wheel of a package, and its version; None if there is none."""
    place = folder / name
    if not list(place.glob("*.whl")):
        place.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        if subprocess.run([*pip, "--only-binary", ":all:", name], cwd=place).returncode:
            return None
    wheel = next(iter(sorted(place.glob("*.whl"))))
    tree = place / "tree"
    if not tree.exists():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(tree)
    return tree, wheel.name.split("-")[1]


def migrated(tree: Path) -> dict[str, Any]:
    """What `migrate` does to a copy of a tree."""
    copy = tree.with_name("migrated")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(tree, copy)
    skipped: list[tuple[Path, str]] = []
    start, used = time.perf_counter(), os.times()
    answers = list(migrate.answers([copy], skipped))
    seconds = time.perf_counter() - start
    after = os.times()
    sites = [site for answer in answers for site in answer.sites]
    for answer in answers:
        if answer.changed:
            files.replace(answer.path, answer.before, answer.after)
            if answer.path.suffix == ".py":
                compile(answer.after, str(answer.path), "exec", dont_inherit=True)
    again = [answer for answer in migrate.answers([copy], []) if answer.changed]
    return {
        "files": len(files.find([copy], (".py", ".ipynb", ".yaml", ".yml")).files),
        "changed": sum(answer.changed for answer in answers),
        "rewritten": sum(not site.left for site in sites),
        "left": Counter(site.left.partition(":")[0] for site in sites if site.left),
        "skipped": Counter(reason.partition(":")[0] for _, reason in skipped),
        "compiled": True,  # else it has raised
        "idempotent": not again,
        "seconds": round(seconds, 2),
        "processor": round(sum(after[:4]) - sum(used[:4]), 2),
    }


def linted(tree: Path) -> list[dict[str, Any]]:
    """The findings in a tree, by all rules."""
    rows = []
    for path in files.find([tree], (".py",)).files:
        for one in lint.answer_of(path, frozenset(RULES), frozenset()).findings:
            line = path.read_bytes().splitlines()[one.line - 1].decode(errors="replace").strip()
            where = path.relative_to(tree).as_posix()
            rows.append({"path": where, "line": one.line, "code": one.code, "source": line})
    return rows


def run(folder: Path, only: list[str]) -> None:
    """Measure, and write the record."""
    record: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for name in only or [*MIGRATED, *LINTED]:
        found = fetch(name, folder)
        if found is None:
            print(f"{name}: no wheel")
            continue
        tree, version = found
        before = record.get(name, {})
        judged = {(r["path"], r["code"], r["source"]): r for r in before.get("lint", [])}
        rows = linted(tree)
        for row in rows:
            was = judged.get((row["path"], row["code"], row["source"]), {})
            row.update({key: was[key] for key in ("right", "why") if key in was})
        record[name] = {"version": version, "lint": rows}
        if name in MIGRATED:
            record[name]["migrate"] = migrated(tree)
        print(name, version, record[name].get("migrate", ""), len(rows), flush=True)
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def precision(record: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """How many of the judged findings of a rule are right, and how many were judged."""
    rows = [row for package in record.values() for row in package["lint"] if "right" in row]
    return {
        code: (
            sum(row["right"] for row in rows if row["code"] == code),
            sum(row["code"] == code for row in rows),
        )
        for code in RULES
    }


def migrate_table(record: dict[str, Any]) -> str:
    """What `migrate` did, a package a row."""
    lines = [
        "| package | files | rewritten | in files | left, and why |",
        "|---|---|---|---|---|",
    ]
    total: Counter[str] = Counter()
    for name, package in sorted(record.items()):
        if "migrate" not in package:
            continue
        done = package["migrate"]
        left = "; ".join(f"{count} {why}" for why, count in sorted(done["left"].items()))
        row = (done["files"], done["rewritten"], done["changed"])
        total.update(
            files=row[0], rewritten=row[1], changed=row[2], left=sum(done["left"].values())
        )
        cells = " | ".join(map(str, row))
        lines.append(f"| {name} {package['version']} | {cells} | {left or '0'} |")
    cells = " | ".join(str(total[key]) for key in ("files", "rewritten", "changed", "left"))
    return "\n".join([*lines, f"| **all** | {cells} |"])


def lint_table(record: dict[str, Any]) -> str:
    """The rules, with what was judged of their findings."""
    lines = ["| rule | finds | by default | right of those judged |", "|---|---|---|---|"]
    for rule in RULES.values():
        on = "on" if rule.default else "off"
        lines.append(f"| `{rule.code}` | {rule.title} | {on} | {rule.measured} |")
    return "\n".join(lines)


TABLES = {"migrate": migrate_table, "lint": lint_table}


def page(text: str, record: dict[str, Any]) -> str:
    """The page with its tables made from the record."""
    for name, table in TABLES.items():
        before, rest = text.split(f"<!-- {name} -->\n")
        _, after = rest.split(f"<!-- end of {name} -->")
        text = f"{before}<!-- {name} -->\n{table(record)}\n<!-- end of {name} -->{after}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repositories", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the packages are fetched to")
    parser.add_argument("--page", action="store_true", help="write the page from the record alone")
    parser.add_argument("only", nargs="*", metavar="PACKAGE", help="default: all")
    options = parser.parse_args()
    if options.folder:
        run(options.folder.resolve(), options.only)
    if options.page:
        path = DOCS / "migrate.md"
        path.write_text(page(path.read_text(), json.loads(RECORD.read_text())))


if __name__ == "__main__":
    main()
