"""Counts rooms, arrows, circles and words of jaxnet: `python -m benchmarks.house`."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxnet"
MANY_ARGUMENTS = 7
VAGUE = re.compile(r"\b(?:that|those)\s+of\b", re.IGNORECASE)
Graph = Mapping[str, set[str]]


@cache
def sources() -> dict[str, ast.Module]:
    """Return every module of the package by its dotted name; a package is its `__init__`."""
    modules = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(p for p in parts if p != "__init__")] = ast.parse(path.read_text("utf-8"))
    return modules


def imports(name: str, tree: ast.Module) -> Iterator[str]:
    """Yield the modules of the package that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            is_package = (ROOT / name.replace(".", "/")).is_dir()
            parents = name.split(".")[: -(node.level - is_package) or None] if node.level else []
            base = ".".join([*parents, *(node.module or "").split(".")]).strip(".")
            # `from package import x` imports x where x is a module, else the package.
            inner = [f"{base}.{alias.name}" for alias in node.names]
            found = [one if one in sources() else base for one in inner]
        else:
            continue
        yield from (one for one in found if one in sources())


def rooms(ancestor: str) -> Graph:
    """Return which child of a package imports which other child."""

    def room(module: str) -> str | None:
        inside = module.removeprefix(f"{ancestor}.")
        return None if inside == module else inside.split(".")[0]

    graph: dict[str, set[str]] = {}
    for name, tree in sources().items():
        here = room(name)
        if here is not None:
            arrows = graph.setdefault(here, set())
            arrows |= {there for one in imports(name, tree) if (there := room(one))}
    return {here: arrows - {here} for here, arrows in graph.items()}


def circles(graph: Graph) -> list[set[str]]:
    """Return the groups of rooms that reach each other."""

    def reached(start: str) -> set[str]:
        seen, waiting = set(), list(graph[start])
        while waiting:
            if (one := waiting.pop()) not in seen:
                seen.add(one)
                waiting.extend(graph[one])
        return seen

    reach = {room: reached(room) for room in graph}
    found = {frozenset(b for b in reach[a] if a in reach[b]) for a in graph if a in reach[a]}
    return [set(circle) for circle in found]


def floors(graph: Graph) -> int | None:
    """Return how many rooms the longest path of imports has; None where it is a circle."""
    if circles(graph):
        return None

    @cache
    def height(room: str) -> int:
        return 1 + max(map(height, graph[room]), default=0)

    return max(map(height, graph))


def has_many_arguments(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and len(node.args) >= MANY_ARGUMENTS


def docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield all texts that stand as statements: docstrings, also those below an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield str(node.value.value)


def commented_lines(text: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return len({token.start[0] for token in tokens if token.type == tokenize.COMMENT})


def main() -> None:
    trees = sources().values()
    texts = [path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))]
    lines = sum(len(text.splitlines()) for text in texts)
    packages = [name for name in sources() if (ROOT / name.replace(".", "/")).is_dir()]
    rings = [f"{name}: {', '.join(sorted(c))}" for name in packages for c in circles(rooms(name))]
    rows: list[tuple[str, object]] = [("import circles, all packages", "; ".join(rings) or 0)]
    for name in ("jaxnet", "jaxnet.sweeps"):
        graph = rooms(name)
        counts = len(graph), floors(graph), sum(map(len, graph.values()))
        rows.append((f"rooms, floors, arrows of {name}", "{}, {}, {}".format(*counts)))
    many = sum(has_many_arguments(node) for tree in trees for node in ast.walk(tree))
    rows.append((f"calls with {MANY_ARGUMENTS} or more positional arguments", many))
    vague = sum(len(VAGUE.findall(text)) for tree in trees for text in docstrings(tree))
    rows.append(('"that of", "those of" in docstrings', vague))
    rows.append(("lines with a comment", f"{sum(map(commented_lines, texts)) / lines:.1%}"))
    rows.append(("lines of Python in jaxnet/", f"{lines:,}"))
    rows.append(("lines of the README", len((ROOT / "README.md").read_text("utf-8").splitlines())))
    for what, value in rows:
        print(f"| {what} | {value} |")


if __name__ == "__main__":
    main()
