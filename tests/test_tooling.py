"""What surrounds the code agrees with it: versions, make's targets, hooks, workflow, templates, dependencies."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml

import fdt
from tests.helpers.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
OWN = PROJECT["name"]


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def list_requirements() -> set[str]:
    """Names of all packages that the project asks for, those of its extras included."""
    extras = PROJECT["optional-dependencies"].values()
    asked = [*PROJECT["dependencies"], *(name for extra in extras for name in extra)]
    names = {normalise(match[0]) for name in asked if (match := re.match(r"[\w.-]+", name))}
    return names - {normalise(OWN)}


def test_one_version_everywhere():
    assert PROJECT["version"] == fdt.__version__
    released = re.findall(r"^## (\d+\.\d+\.\d+) \(\d{4}-\d{2}-\d{2}\)$", read("CHANGELOG.md"), re.MULTILINE)
    assert released[0] == fdt.__version__
    assert released == sorted(released, key=lambda text: [int(part) for part in text.split(".")], reverse=True)


def test_every_package_is_pinned_and_explained():
    pinned = {normalise(line.split("==")[0]) for line in read("constraints.txt").splitlines() if "==" in line}
    # The logger's users choose their own.
    assert not list_requirements() - pinned - {"wandb", "trackio"}
    explained = {normalise(name) for name in re.findall(r"[\w.-]+", read("docs/dependencies.md"))}
    assert not list_requirements() - explained


def test_pins_lie_in_the_ranges():
    from packaging.requirements import Requirement
    from packaging.version import Version

    pins = dict(line.split("==") for line in read("constraints.txt").splitlines() if "==" in line)
    known = {normalise(name): version for name, version in pins.items()}
    asked = [*PROJECT["dependencies"], *(name for e in PROJECT["optional-dependencies"].values() for name in e)]
    for requirement in map(Requirement, asked):
        if normalise(requirement.name) in known:
            assert requirement.specifier.contains(Version(known[normalise(requirement.name)])), requirement


def test_packages_are_marked_as_typed():
    assert "Typing :: Typed" in PROJECT["classifiers"]
    for package in ("fdt", "feedback", "objectives"):
        assert (ROOT / package / "py.typed").is_file()


def test_targets_are_listed_and_called():
    phony = set(re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)[1].split())
    assert phony <= TARGETS
    help_text = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[1] for line in help_text.splitlines()} == phony
    for page in ("README.md", "CONTRIBUTING.md", "AGENTS.md", ".github/workflows/ci.yml", ".ci/run"):
        for target in re.findall(r"(?:^|`|run: )make ([a-z][a-z-]*)", read(page), re.MULTILINE):
            assert target in TARGETS, f"{page}: make {target}"


def test_lint_runs_all_four_and_fails_if_one_does():
    recipe = MAKEFILE.split("\nlint:")[1].split("\n\n")[0]
    assert [tool in recipe for tool in ("ruff check", "ruff format --check", "mypy", "audit.py")] == [True] * 4
    assert recipe.count("|| status=1") == 4 and "exit $$status" in recipe


def test_ci_lints_and_tests_whatever_the_other_says():
    script = read(".ci/run")
    assert (
        script.index("make lint || status=1") < script.index("make test || status=1") < script.index('exit "$status"')
    )
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)


def test_workflow_calls_lint_and_test():
    workflow = yaml.safe_load(read(".github/workflows/ci.yml"))
    commands = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert any(command.startswith("make lint") for command in commands)
    assert any(command.startswith("make test") for command in commands)
    assert workflow["permissions"] == {"contents": "read"}


def test_hooks_are_local_and_valid():
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    assert {hook["language"] for hook in hooks[0]["hooks"]} == {"system"}
    assert {hook["entry"].split()[0] for hook in hooks[0]["hooks"]} == {".venv/bin/ruff", ".venv/bin/mypy"}
    pytest.importorskip("pre_commit", reason="the extra `dev` is not installed")
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(ROOT / ".pre-commit-config.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["bug", "feature", "question"])
def test_issue_templates_are_forms(name: str):
    form = yaml.safe_load(read(f".github/ISSUE_TEMPLATE/{name}.yml"))
    assert form["name"] and form["description"]
    fields = [item for item in form["body"] if item["type"] != "markdown"]
    assert fields and all(item["id"] and item["attributes"]["label"] for item in fields)
    assert any(item.get("validations", {}).get("required") for item in fields)


def test_pages_for_contributors_name_files_that_exist():
    for page in ("CONTRIBUTING.md", "AGENTS.md", "CHANGELOG.md", ".github/PULL_REQUEST_TEMPLATE.md"):
        for target in re.findall(r"\]\(([\w./-]+)\)", read(page)):
            assert (ROOT / target).exists(), f"{page} links to {target}"
        for name in re.findall(r"`((?:docs|tests|configs|\.github)/[\w./-]+\.\w+)`", read(page)):
            assert (ROOT / name).exists(), f"{page} names {name}"
