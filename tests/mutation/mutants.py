"""From a module's source to its mutants. Pure.

Each operator changes one node: a comparison, a boolean operator, a condition, a number, a
sign. The choice among the mutants of a package is by a hash of what is mutated, so that it
stays as it is while that code does.
"""

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Mutant", "in_order", "mutants_of"]

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: ``module`` with its changed ``source``.

    ``name`` is stable: module, function, what is changed, and which of its like in that
    function. ``line`` is its line in the original.
    """

    module: str
    name: str
    line: int
    before: str
    after: str
    source: str

    @property
    def rank(self) -> bytes:
        """Where it comes in the order in which mutants are chosen."""
        return hashlib.sha256(self.name.encode()).digest()


def in_order(mutants: list[Mutant]) -> list[Mutant]:
    """Sort mutants as they are chosen: always in the same order for the same code."""
    return sorted(mutants, key=lambda mutant: mutant.rank)


def mutants_of(module: str, source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module's functions."""
    tree = ast.parse(source)
    lines = source.splitlines(keepends=True)
    seen: Counter[str] = Counter()
    for function, node in _nodes(tree, ""):
        for after in _faults(node):
            before = ast.unparse(node)
            kind = f"{module}:{function}: {before} -> {after}"
            seen[kind] += 1
            name = kind if seen[kind] == 1 else f"{kind} ({seen[kind]})"
            changed = _replaced(lines, node, after)
            yield Mutant(module, name, node.lineno, before, after, changed)


def _nodes(node: ast.AST, function: str) -> Iterator[tuple[str, ast.expr]]:
    """Yield the expressions inside functions, with the function's qualified name."""
    for child in _executed(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _nodes(child, f"{function}.{child.name}".lstrip("."))
        else:
            if function and isinstance(child, ast.expr):
                yield function, child
            yield from _nodes(child, function)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what of a node is code: no annotations, decorators, parameters, class options or docstrings.

    Assertions are left out as well, and so are the options of ``zip``: they change nothing as long
    as they hold.
    """
    left_out: set[int] = set()
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        left_out = {id(child) for child in node.decorator_list}
        if isinstance(node, ast.ClassDef):
            left_out |= {id(keyword) for keyword in node.keywords}
        else:
            left_out |= {id(node.args), id(node.returns)}
    if isinstance(node, ast.AnnAssign):
        left_out = {id(node.annotation)}
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "zip":
        left_out = {id(keyword) for keyword in node.keywords}
    for child in ast.iter_child_nodes(node):
        if id(child) not in left_out and not isinstance(child, ast.JoinedStr | ast.Assert):
            yield child


def _faults(node: ast.expr) -> Iterator[str]:
    """Yield the changed forms of one expression."""
    match node:
        case ast.Compare(left, [operator], [right]) if type(operator) in _COMPARISONS:
            changed: ast.expr = ast.Compare(left, [_COMPARISONS[type(operator)]()], [right])
            yield f"({ast.unparse(changed)})"
        case ast.BoolOp(operator, values):
            other = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield f"({ast.unparse(ast.BoolOp(other, values))})"
        case ast.UnaryOp(ast.Not(), operand):
            yield f"({ast.unparse(operand)})"
        case ast.BinOp(left, operator, right) if type(operator) in _ARITHMETIC and not _is_text(node):
            changed = ast.BinOp(left, _ARITHMETIC[type(operator)](), right)
            yield f"({ast.unparse(changed)})"
        case ast.IfExp(test, body, orelse):
            yield f"({ast.unparse(ast.IfExp(test, orelse, body))})"
        case ast.Constant(bool(value)):
            yield repr(not value)
        case ast.Constant(int(value)):
            yield repr(value + 1)


def _is_text(node: ast.BinOp) -> bool:
    """Tell whether strings or lists are joined: without ``+`` that is an error, and no fault."""
    parts = (node.left, node.right)
    return any(
        isinstance(part, ast.JoinedStr | ast.List | ast.Tuple | ast.ListComp)
        or (isinstance(part, ast.Constant) and isinstance(part.value, str | bytes))
        for part in parts
    )


def _replaced(lines: list[str], node: ast.expr, text: str) -> str:
    """Put ``text`` in the place of a node; columns count UTF-8 bytes (ast's own rule)."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    head = lines[node.lineno - 1].encode()[: node.col_offset].decode()
    tail = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
    return "".join([*lines[: node.lineno - 1], head, text, tail, *lines[node.end_lineno :]])
