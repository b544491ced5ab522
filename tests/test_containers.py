"""Container recipes pin what the project pins and start what it installs."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RECIPES = ("Dockerfile", "braintune.def")


@pytest.mark.parametrize("name", RECIPES)
def test_versions_entry_point_and_files_are_the_projects(name: str) -> None:
    text = (ROOT / "containers" / name).read_text(encoding="utf-8")
    install = re.search(r"pip install .*-c constraints\.txt \"\.\[(.+)\]\"", text)
    assert install is not None
    assert set(install[1].split(",")) <= set(PROJECT["optional-dependencies"])
    assert "braintune-bids" in PROJECT["scripts"]
    assert re.search(r"ENTRYPOINT \[\"braintune-bids\"\]|exec braintune-bids", text)
    for file in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "src"):
        assert file in text
        assert (ROOT / file).exists()


def test_both_are_of_one_python_that_the_project_takes() -> None:
    found = {
        re.search(r"python:(\d+\.\d+)-slim", (ROOT / "containers" / name).read_text())[1]
        for name in RECIPES
    }
    assert len(found) == 1
    assert f"Programming Language :: Python :: {found.pop()}" in PROJECT["classifiers"]
