"""Sessions without bookkeeping, which only the benchmark runs: what does it cost to keep and count?

The sources of both ends of a session are compiled without the statements that keep and count
messages, wherever those stand: some are written out on the paths of single calls. Such a session
cannot survive its connection. Nothing in the package itself has a switch for this.
"""

import ast
import importlib
import importlib.util
import sys
from typing import Any, Final

__all__ = ("forget_everything",)

_MODULES: Final = ("aiomanager.sessions.client", "aiomanager.sessions.server")
_COUNTS: Final = frozenset(
    {"acknowledged", "kept_bytes", "received", "sent", "told", "unacknowledged", "unsaid"}
)


def forget_everything() -> None:
    """Have sessions of this process, and of what it forks, keep and count nothing.

    Raises:
        RuntimeError: it is too late, or the sources are not what this was written for.
    """
    for name in _MODULES:
        if name in sys.modules:
            raise RuntimeError(f"{name} is imported already")
        spec = importlib.util.find_spec(name)
        loader: Any = spec.loader if spec is not None else None
        source = loader.get_source(name) if loader is not None else None
        if spec is None or source is None:
            raise RuntimeError(f"the source of {name} is not there")
        tree, removed = _without_bookkeeping(ast.parse(source))
        if removed < 4:
            raise RuntimeError(f"{name} no longer keeps its accounts in `stream`")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        exec(compile(tree, spec.origin or name, "exec"), module.__dict__)
        setattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2], module)
    from aiomanager.objects import TYPES

    # Nothing that a call hands out is confirmed by its receiver.
    for kind in TYPES:
        for operation in kind.operations.values():
            operation.consumes = False


def _without_bookkeeping(tree: ast.Module) -> tuple[ast.Module, int]:
    """Return a module without it, and how many statements that took."""
    forgetting = _Forgetting()
    forgetting.visit(tree)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            _DeadStores(function).visit(function)
    return ast.fix_missing_locations(tree), forgetting.removed


def _is_stream(node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id == "stream") or (
        isinstance(node, ast.Attribute) and node.attr == "stream"
    )


def _is_of_stream(node: ast.AST) -> bool:
    """Tell whether a target or a call is something of the stream."""
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
        if _is_stream(node):
            return True
    return False


class _Statements(ast.NodeTransformer):
    """Removes statements; a block that is left empty gets a `pass`."""

    removed = 0

    def remove(self) -> ast.AST | None:
        """Return what stands in a removed statement's place: nothing."""
        self.removed += 1
        return None

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]  # pyright: ignore
        return node


class _Forgetting(_Statements):
    """Removes what changes the stream; what is read of it becomes nought."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Call) and _is_of_stream(node.value):
            return self.remove()
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        if all(_is_of_stream(target) for target in node.targets):
            return self.remove()
        return self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST | None:
        return self.remove() if _is_of_stream(node.target) else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        self.generic_visit(node)
        never = isinstance(node.test, ast.Constant) and not node.test.value
        idle = all(isinstance(statement, ast.Pass) for statement in node.body)
        calls = any(isinstance(part, ast.Call) for part in ast.walk(node.test))
        return None if not node.orelse and (never or (idle and not calls)) else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if _is_stream(node.value) and isinstance(node.ctx, ast.Load):
            if node.attr in _COUNTS:
                return ast.Constant(0)
            if node.attr == "ack_due":
                return ast.Constant(False)
            if node.attr == "kept":
                return ast.Tuple([], ast.Load())
        return node


class _DeadStores(_Statements):
    """Removes the local names of one function that nothing reads any more."""

    def __init__(self, function: ast.FunctionDef) -> None:
        self._read = {
            node.id
            for node in ast.walk(function)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        (target, *more) = node.targets
        calls = any(isinstance(part, ast.Call) for part in ast.walk(node.value))
        if more or calls or not isinstance(target, ast.Name) or target.id in self._read:
            return node
        return self.remove()
