"""Small faults put into source text: which there are in a file, and the text with one of them.

The faults are Cosmic Ray's operators, of each pair the replacement that looks most like the original (`<` becomes `<=`,
not `==`), and one of our own: a call or an in-place change whose result nobody binds is left out. What is no change of
what the program computes is not counted: type annotations, docstrings, how much of a value a message shows, whether a
dataclass is frozen.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import parso
from cosmic_ray.ast import get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import get_operator

_CHOSEN = (
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Div")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Mod_FloorDiv", "Pow_Mul", "RShift_LShift", "LShift_RShift")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("BitOr_BitAnd", "BitAnd_BitOr", "BitXor_BitOr")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Is_IsNot", "IsNot_Is")),
    *("ReplaceUnaryOperator_Delete_USub", "ReplaceUnaryOperator_Delete_Not"),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "NumberReplacer", "ZeroIterationForLoop"),
)


class LeaveOut(Operator):
    """Leaves out a statement that is a call, an `await`, or an in-place change (`a += b`, `a.b = c`, `a[b] = c`)."""

    def mutation_positions(self, node):
        """The statement, where it is one of these."""
        if node.type == "simple_stmt" and self._acts(node.children[0]):
            yield (node.start_pos, node.end_pos)

    def mutate(self, node, index):  # noqa: ARG002 - as Cosmic Ray calls it
        """`pass` in its place."""
        (nothing,) = parso.parse("pass").children[:1]
        nothing.get_first_leaf().prefix = node.children[0].get_first_leaf().prefix
        node.children[0] = nothing
        return node

    @staticmethod
    def _acts(statement) -> bool:
        if statement.type in ("atom_expr", "power"):
            return True
        if statement.type != "expr_stmt":
            return False
        changed, sign = statement.children[0], statement.children[1]
        return sign.type == "operator" and (sign.value != "=" or changed.type in ("atom_expr", "power"))

    @classmethod
    def examples(cls):
        """For Cosmic Ray's own tests."""
        return (Example("f(x)\n", "pass\n"), Example("x += 1\n", "pass\n"), Example("x[0] = 1\n", "pass\n"))


OPERATORS: dict[str, type[Operator]] = {name: get_operator(f"core/{name}") for name in _CHOSEN}
OPERATORS["LeaveOut"] = LeaveOut


@dataclass(frozen=True)
class Mutant:
    """One fault in one file."""

    line: int  # 1 and up
    operator: str
    before: str  # the line or lines that differ, joined by a space
    after: str
    source: str

    @property
    def digest(self) -> str:
        """Of the whole text with the fault."""
        return hashlib.sha256(self.source.encode()).hexdigest()


def mutants(source: str) -> Iterator[Mutant]:
    """All faults of a source text, each as the whole text with that fault alone."""
    meaning = _meaning(source)
    tree = get_ast(source)
    seen: set[str] = set()
    for name, operator_class in OPERATORS.items():
        operator = operator_class()
        for occurrence, line in enumerate(_lines(tree, operator)):
            changed = mutate_code(source, operator, occurrence)
            if changed is None or changed in seen:
                continue
            seen.add(changed)
            try:
                same = _meaning(changed) == meaning
            except SyntaxError:
                continue
            if not same:
                before, after = _difference(source, changed)
                yield Mutant(line, name, before, after, changed)


def _lines(node, operator: Operator) -> Iterator[int]:
    """Line of each place where the operator applies, in the order in which Cosmic Ray counts them."""
    for (start, _), _ in operator.mutation_positions(node):
        yield start
    for child in getattr(node, "children", ()):
        yield from _lines(child, operator)


def _meaning(source: str) -> str:
    """The syntax tree without what is no computation, written out; `*` and `/` among parameters are annotations."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [one for one in node.body if not _is_docstring(one)] or [ast.Pass()]
        _strip(node)
    return ast.dump(tree)


def _strip(node: ast.AST) -> None:
    match node:
        case ast.arguments():
            node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
            node.defaults = [*node.defaults, *(default for default in node.kw_defaults if default is not None)]
            node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
        case ast.arg() | ast.AnnAssign(value=ast.expr()):
            node.annotation = ast.Constant(None)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            node.returns = None
        case ast.keyword(arg="frozen" | "slots" | "kw_only"):
            node.value = ast.Constant(True)
        case ast.JoinedStr():
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, int):
                    part.value = 0


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _difference(before: str, after: str) -> tuple[str, str]:
    lines = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[:2] in ("- ", "+ ")]
    return tuple(" ".join(line[2:].strip() for line in lines if line[0] == sign) for sign in "-+")  # type: ignore[return-value]
