"""What a linter would point at: names that the broken program leaves unused."""

import ast
from collections import Counter
from collections.abc import Mapping


def unused(text: str) -> Counter[str]:
    """Imported or assigned local names that are never read (the linters' F401 and F841)."""
    tree = ast.parse(text)
    loads = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and _is_load(node)}
    found: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [(alias.asname or alias.name).split(".")[0] for alias in node.names]
            found.update(name for name in names if name not in loads)
        if isinstance(node, ast.FunctionDef):
            found.update(_unused_locals(node))
    return found


def adds_a_finding(reference: Mapping[str, str], broken: Mapping[str, str]) -> bool:
    """Whether a file of the broken program has an unused name that the reference's has not."""
    changed = [path for path, text in broken.items() if text != reference[path]]
    return any(unused(broken[path]) - unused(reference[path]) for path in changed)


def _unused_locals(function: ast.FunctionDef) -> set[str]:
    names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    read = {node.id for node in names if _is_load(node)}
    bound = {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    shared = {
        name
        for node in ast.walk(function)
        if isinstance(node, ast.Global | ast.Nonlocal)
        for name in node.names
    }
    return bound - read - shared


def _is_load(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)
