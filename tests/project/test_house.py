"""Which room of the package may import which: data walks down, nothing climbs back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "kinto_attachment"

FLOORS = (
    {"kinto_attachment"},
    {"views", "listeners", "commands"},
    {"tus", "migrations"},
    {"attachments"},
    {"http"},
    {"errors", "settings"},
    {"storage", "database"},
    {"metrics"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# Of which room each is; none has those of PostgreSQL's.
PROVIDERS = {
    "kinto_attachment.storage.s3": ("boto3", "botocore"),
    "kinto_attachment.storage.gcloud": ("google", "google_crc32c", "requests"),
    "": ("sqlalchemy", "psycopg2", "psycopg"),
}


def modules() -> dict[str, ast.Module]:
    """Every module of the package, by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text())
    return found


MODULES = modules()


def room_of(module: str) -> str:
    _, _, rest = module.partition(".")
    return rest.partition(".")[0] or "kinto_attachment"


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that ``tree`` imports, wherever it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in MODULES else str(node.module)


def own_imports(module: str) -> set[str]:
    return {name for name in imports(MODULES[module]) if name in MODULES} - {module}


def test_every_room_stands_on_a_floor():
    assert {room_of(module) for module in MODULES} == set(FLOOR_OF)


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_from_floors_below(module):
    room = room_of(module)
    climbing = {
        name
        for name in own_imports(module)
        if room_of(name) != room and FLOOR_OF[room_of(name)] <= FLOOR_OF[room]
    }

    assert climbing == set()


def test_no_module_imports_itself_in_a_circle():
    graph = {module: own_imports(module) for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(f"a circle of imports: {' -> '.join(circle.args[1])}")


@pytest.mark.parametrize("module", MODULES)
def test_a_provider_is_imported_in_its_own_room_alone(module):
    foreign = {
        name
        for room, providers in PROVIDERS.items()
        for name in imports(MODULES[module])
        if name.partition(".")[0] in providers and not (room and module.startswith(room))
    }

    assert foreign == set()


def test_the_storage_knows_no_kinto():
    names = {
        name
        for module, tree in MODULES.items()
        if room_of(module) == "storage"
        for name in imports(tree)
        if name.partition(".")[0] in ("kinto", "pyramid")
    }

    assert names == set()


@pytest.mark.parametrize("module", MODULES)
def test_answers_are_built_in_one_place(module):
    """``errors.py`` alone makes responses of refusals; Kinto's own pass through."""
    built = {
        node.func.id
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and (node.func.id in ("http_error", "raise_invalid") or node.func.id.startswith("HTTP"))
    }

    if module == "kinto_attachment.errors":
        assert "http_error" in built
    else:
        assert built <= {"HTTPNotFound"}, built


DELETING = {
    # The transaction's: whatever is given up passes the last look.
    ("kinto_attachment.attachments.file_changes", "delete_files"),
    # Each file is asked about right before, under the lock on its row.
    ("kinto_attachment.commands.deletion", "delete_files"),
}


def deleting_functions() -> Iterator[tuple[str, str]]:
    """The functions out of the storage that delete stored files."""
    for module, tree in MODULES.items():
        if room_of(module) == "storage":
            continue
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef) and any(
                isinstance(node, ast.Attribute)
                and (
                    node.attr == "delete_many"
                    and not ast.unparse(node.value).endswith("rows")
                    or node.attr == "delete"
                    and ast.unparse(node.value).endswith("files")
                )
                for node in ast.walk(function)
            ):
                yield module, function.name


def test_files_are_deleted_in_few_places():
    """Another place has to ask the records first, too: see ``References.keep_referenced()``."""
    assert set(deleting_functions()) == DELETING
