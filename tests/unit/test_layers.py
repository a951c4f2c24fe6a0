"""The arrows between the layers point one way (DESIGN 3)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: What a sans-IO module must not touch: clocks, sockets, threads, randomness of its own.
WAITING = {"asyncio", "socket", "ssl", "time", "threading", "select", "selectors", "subprocess", "secrets"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path, *, runtime_only: bool = False) -> set[str]:
    """Names of the modules that a file imports; those under TYPE_CHECKING only count if asked for."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    if runtime_only:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                skipped.update(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", modules("iroh_py/proto"), ids=ids)
def test_proto_module_neither_waits_nor_reads_clocks(path: Path) -> None:
    """proto/ is sans-IO: now and rng come in."""
    tops = {name.split(".")[0] for name in imports(path, runtime_only=True)}
    assert not tops & WAITING


@pytest.mark.parametrize("path", modules("iroh_py/proto"), ids=ids)
def test_proto_module_imports_nothing_above_it(path: Path) -> None:
    """proto <- io <- handles."""
    above = (
        "iroh_py.io",
        "iroh_py.endpoint",
        "iroh_py.connection",
        "iroh_py.streams",
        "iroh_py.relay",
        "iroh_py.testing",
    )
    assert not [
        n
        for n in imports(path, runtime_only=True)
        if n.startswith(above)
        and n != "iroh_py.relay_url"
        and not n.startswith(("iroh_py.relay_url.", "iroh_py.relay_map"))
    ]


@pytest.mark.parametrize("path", modules("netns_fixtures"), ids=ids)
def test_lab_module_imports_nothing_of_the_others(path: Path) -> None:
    """netns_fixtures is useful without iroh."""
    assert not [n for n in imports(path) if n.split(".")[0] in ("iroh_py", "pytest_iroh")]


@pytest.mark.parametrize("path", modules("iroh_py"), ids=ids)
def test_protocol_module_imports_nothing_of_the_lab(path: Path) -> None:
    """iroh_py runs without a lab, and without pytest."""
    assert not [
        n for n in imports(path) if n.split(".")[0] in ("netns_fixtures", "pytest_iroh", "pytest", "_pytest")
    ]


def test_no_module_is_longer_than_six_hundred_lines() -> None:
    """A file that grew beyond this has a seam somewhere (STYLE, sizes)."""
    sizes = {
        ids(p): len(p.read_text().splitlines())
        for pkg in ("iroh_py", "netns_fixtures", "pytest_iroh")
        for p in modules(pkg)
    }
    assert not {name: size for name, size in sizes.items() if size > 600}
