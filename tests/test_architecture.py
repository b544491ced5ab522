"""The house keeps its order: imports point only down, files stay small."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "braintune"
# From the top of the house to its ground floor; a room may import from those after it.
ROOMS = [
    "__main__",
    "commands",
    "demo",
    "chain",
    "reporting",
    "studies",
    "fitting",
    "evaluation",
    "tasks",
    "volumetry",
    "synthesis",
    "adapters",
    "models",
    "imaging",
    "cohort",
    "parallel",
    "run",
    "pretraining_recipe",
    "recipe",
    "training_recipe",
    "dwi_recipe",
    "heads_recipe",
    "section",
    "registry",
    "console",
    "files",
    "extras",
    "errors",
    "_version",
]
FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "braintune":
                names = [f"braintune.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("braintune.")}
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_only_down(path: Path) -> None:
    floor = ROOMS.index(room_of(path))
    upwards = {room for room in imported_rooms(path) if ROOMS.index(room) < floor}
    assert not upwards, f"{path.name} imports from above: {upwards}"


def test_every_room_has_a_place_in_the_order() -> None:
    assert {room_of(path) for path in FILES} <= set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_hold_one_idea(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_help_imports_no_torch() -> None:
    """Every command imports what is heavy only when it runs."""
    heavy = {"torch", "pandas", "numpy", "nibabel", "matplotlib", "scipy", "sklearn"}
    for path in (SOURCE / "commands").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                root = str(module).split(".")
                assert root[0] not in heavy, f"{path.name} imports {module} at its top"
                if root[0] == "braintune" and len(root) > 1:
                    assert root[1] in {"commands", "errors", "_version"}, f"{path.name}: {module}"
