"""The files around the code: workflows, forms for issues, and what is written in two places."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import safeloss

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[1]
if not (ROOT / ".github").exists():
    pytest.skip("a source distribution has no such files", allow_module_level=True)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").iterdir())


def loaded(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def jobs(file: Path) -> list[dict[str, Any]]:
    return [*loaded(file)["jobs"].values()]


def combinations(job: dict[str, Any]) -> list[dict[str, str]]:
    """The matrix of a job, as GitHub expands one whose `include` only adds combinations."""
    matrix = dict(job["strategy"]["matrix"])
    added = matrix.pop("include")
    assert list(matrix) == ["python", "torch"]
    return [{"python": p, "torch": t} for p in matrix["python"] for t in matrix["torch"]] + added


def commands() -> list[str]:
    """What the workflows run, with the values of their matrices."""
    run = []
    for file in WORKFLOWS:
        for job in jobs(file):
            lines = [step["run"] for step in job["steps"] if "run" in step]
            for values in combinations(job) if "strategy" in job else [{}]:
                for line in lines:
                    for name, value in values.items():
                        line = line.replace(f"${{{{ matrix.{name} }}}}", value)
                    run.append(line)
    return run


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_is_complete(file: Path) -> None:
    workflow = loaded(file)
    assert workflow.keys() >= {"name", True, "permissions", "jobs"}  # `on` is true in YAML 1.1
    assert workflow["permissions"]["contents"] == "read"
    for job in jobs(file):
        assert job["runs-on"] == "ubuntu-latest"
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            action = step.get("uses", "actions/none@v1")
            assert re.fullmatch(r"(actions|pypa)/[\w-]+@(v\d+|release/v1)", action)


def test_what_the_workflows_run_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"(?m)^\.PHONY: (.*)$", makefile)[1].split()
    run = commands()
    assert ".ci/run" in run
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    made = [line.split()[1] for line in run if line.startswith("make ")]
    assert {"test-oldest", "test-newest", "test-nightly"} <= set(made) <= set(targets)
    assert not [line for line in run if "${{ matrix" in line]


def test_the_matrix_covers_what_is_supported() -> None:
    suite = loaded(ROOT / ".github" / "workflows" / "nightly.yml")["jobs"]["suite"]
    pythons = {values["python"] for values in combinations(suite) if values["torch"] == "newest"}
    supported = {
        classifier.rpartition(" ")[2]
        for classifier in PROJECT["project"]["classifiers"]
        if re.search(r"Python :: 3\.\d+$", classifier)
    }
    assert supported <= pythons
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert {"python": oldest, "torch": "oldest"} in combinations(suite)


@pytest.mark.parametrize("file", FORMS, ids=lambda file: file.name)
def test_a_form_has_what_github_requires(file: Path) -> None:
    form = loaded(file)
    assert form.keys() <= {"name", "description", "title", "labels", "body"}
    assert form["name"]
    assert form["description"]
    fields = form["body"]
    assert {field["type"] for field in fields} <= {"textarea", "input", "dropdown"}
    assert len({field["id"] for field in fields}) == len(fields)
    for field in fields:
        assert field["attributes"]["label"]
        assert field["validations"]["required"] is True
        assert ("options" in field["attributes"]) == (field["type"] == "dropdown")


def test_pre_commit_has_the_ruff_of_the_lint_group() -> None:
    [hooks] = loaded(ROOT / ".pre-commit-config.yaml")["repos"]
    assert f"ruff=={hooks['rev'].removeprefix('v')}" in PROJECT["dependency-groups"]["lint"]


def test_the_citation_is_of_this_version() -> None:
    citation = loaded(ROOT / "CITATION.cff")
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}
    assert citation["version"] == safeloss.__version__
    assert citation["repository-code"] == PROJECT["project"]["urls"]["Source"]


def test_the_repository_has_one_home() -> None:
    texts = [*ROOT.glob("*.*"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/**/*.yml")]
    homes = {
        home
        for file in texts
        if file.suffix in (".md", ".toml", ".cff", ".yml", ".yaml")
        for home in re.findall(r"https://github\.com/[\w-]+/safeloss\b", file.read_text())
    }
    assert homes == {PROJECT["project"]["urls"]["Source"]}


def test_contributing_fits_on_two_screens() -> None:
    lines = (ROOT / "CONTRIBUTING.md").read_text().splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 100
