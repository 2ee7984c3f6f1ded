"""Hashes of the code that can change a number: the definitions that an entry point reaches.

A run's hash covers every top-level definition (function, class, constant) that its task reaches by
name, over all modules of the repository. Comments, docstrings, annotations, and the place of a
definition do not count. Of the tables METHODS and ROWS only the row of the run's method counts. A
new method, or a helper for another experiment, therefore leaves every other hash as it is.

`experiments/moves.yaml` records code changes that golden traces prove neutral. `canonical` maps
every hash listed there to the oldest hash of the same results.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from system.errors import UserError
from system.reading import read_yaml

ROOT = Path(__file__).resolve().parents[3]
MOVES = ROOT / "experiments" / "moves.yaml"
# Tables of which a run uses one row.
TABLES = ("METHODS", "ROWS")
# The name of a module's statements that bind nothing and run when it is imported.
ALWAYS = "<always>"
# The functions of experiments/run.py that surround every task.
ENTRIES = ("train_one", "prepare_torch")

# Module, name ("" for the whole module), row of a table.
Symbol = tuple[str, str, str]


class _Neutral(ast.NodeTransformer):
    """Removes what cannot change a number: docstrings, annotations, imports inside functions."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        arguments = node.args
        for argument in (
            *arguments.posonlyargs,
            *arguments.args,
            *arguments.kwonlyargs,
            *filter(None, (arguments.vararg, arguments.kwarg)),
        ):
            argument.annotation = None
        node.body = [self._plain(statement) for statement in _without_docstring(node.body)]
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]  # noqa: N815

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.body = _without_docstring(node.body)
        return node

    def visit_Module(self, node: ast.Module) -> ast.AST:
        self.generic_visit(node)
        node.body = [self._plain(statement) for statement in _without_docstring(node.body)]
        return node

    @staticmethod
    def _plain(statement: ast.stmt) -> ast.stmt:
        if isinstance(statement, ast.AnnAssign):
            if statement.value is None:
                return ast.Pass()
            return ast.Assign([statement.target], statement.value)
        return statement


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """Drops bare strings: docstrings of modules, classes, functions and attributes."""
    return [
        statement
        for statement in body
        if not (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, str)
        )
    ]


@cache
def _syntax(source: str) -> ast.Module:
    """Parses a source text and removes what cannot change a number."""
    return _Neutral().visit(ast.parse(source))


def code_hash(paths: Iterable[str | Path], root: Path = ROOT) -> str:
    """Hashes whole files or folders below `root`, without comments, docstrings, annotations."""
    # A set: a file that two paths name counts once.
    files: set[Path] = set()
    for path in paths:
        full = root / path
        found = set(full.rglob("*.py")) if full.is_dir() else {full}
        if not found or not all(file.is_file() for file in found):
            raise FileNotFoundError(f"code_hash: no Python source at {full}")
        files |= found
    digest = hashlib.sha256()
    for file in sorted(files):
        tree = ast.dump(_syntax(file.read_text(encoding="utf-8")))
        digest.update(f"{file.relative_to(root).as_posix()}\n{tree}\n".encode())
    return digest.hexdigest()[:16]


@dataclass
class _Module:
    """The statements of one file by the names that they bind, its imports, and the rest."""

    bindings: dict[str, list[ast.stmt]] = field(default_factory=dict)
    # local name -> "module:name"
    imports: dict[str, str] = field(default_factory=dict)
    always: list[ast.stmt] = field(default_factory=list)


@cache
def _read_module(source: str) -> _Module:
    module = _Module()
    for statement in _syntax(source).body:
        if isinstance(statement, ast.If) and _never_runs(statement):
            continue
        _add_imports(module, statement)
        if isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass):
            continue
        names = _bound(statement)
        for name in names:
            module.bindings.setdefault(name, []).append(statement)
        if not names:
            module.always.append(statement)
    return module


def _never_runs(statement: ast.If) -> bool:
    """Tells whether a block is for type checkers or for the command line."""
    return ast.unparse(statement.test) in ("TYPE_CHECKING", "__name__ == '__main__'")


def _add_imports(module: _Module, statement: ast.stmt) -> None:
    # Imports inside functions count too.
    for node in ast.walk(statement):
        if isinstance(node, ast.Import):
            for alias in node.names:
                # `import a.b` binds `a`; `import a.b as c` binds the submodule.
                origin = alias.name if alias.asname else alias.name.partition(".")[0]
                module.imports[alias.asname or origin] = f"{origin}:"
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            for alias in node.names:
                module.imports[alias.asname or alias.name] = f"{node.module}:{alias.name}"


def _bound(statement: ast.stmt) -> list[str]:
    """Returns the names that a definition or a plain assignment binds.

    Any other statement has none; it then counts as one that always runs.
    """
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if not isinstance(statement, ast.Assign):
        return []
    targets = [
        element
        for target in statement.targets
        for element in (target.elts if isinstance(target, ast.Tuple) else [target])
    ]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    # A target such as `table[key]` binds no name: the statement as a whole changes something.
    return names if len(names) == len(targets) else []


class _References(ast.NodeVisitor):
    """Collects the dotted names that a statement reads, each with a constant key that follows."""

    def __init__(self) -> None:
        self.found: set[tuple[str, str]] = set()

    def visit_Subscript(self, node: ast.Subscript) -> None:
        name = _dotted(node.value)
        # `METHODS["pcgrad"]` refers to one row of the table.
        if name and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            self.found.add((name, node.slice.value))
        else:
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = _dotted(node)
        if name:
            self.found.add((name, ""))
        else:
            self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self.found.add((node.id, ""))


def _dotted(node: ast.expr) -> str:
    """Returns `a.b.c` as text, or "" for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


@cache
def _references(statement: ast.stmt) -> frozenset[tuple[str, str]]:
    visitor = _References()
    visitor.visit(statement)
    return frozenset(visitor.found)


class Code:
    """The definitions below one root and the definitions that each refers to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._modules: dict[str, _Module | None] = {}
        self._symbols: dict[tuple[str, str], Symbol | str] = {}
        self._records: dict[Symbol, tuple[str, list[Symbol]]] = {}

    def hash(self, entries: Iterable[tuple[str, str]], method: str) -> str:
        """Hashes all that the entries (module, name) reach; of tables, only `method`'s row.

        A definition counts by its content and by what its names refer to, not by its file.
        """
        pending = [self._entry(module, name, method) for module, name in entries]
        reached: dict[Symbol, str] = {}
        while pending:
            symbol = self._with_row(pending.pop(), method)
            if symbol not in reached:
                reached[symbol], targets = self._record(symbol)
                pending += targets
        # Sorted, so that neither the order of entries nor that of definitions counts.
        text = "\n\n".join(sorted(set(reached.values())))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _entry(self, module: str, name: str, method: str) -> Symbol:
        known = self._module(module)
        if known is None:
            raise FileNotFoundError(f"no module {module} below {self.root}")
        if name and name not in {*known.bindings, *known.imports}:
            raise LookupError(f"{module} defines no {name}")
        found = self._symbol(f"{module}:{name}", method)
        assert not isinstance(found, str)
        return found

    def names(self, origin: str) -> tuple[str, ...]:
        """Returns the constant keys or elements of a table.

        The table may be wrapped in `tuple(...)` or be another name of a table.
        """
        symbol = self._symbol(origin, "")
        if isinstance(symbol, str) or not symbol[1]:
            return ()
        value = getattr(self._statements(symbol)[0], "value", None)
        if isinstance(value, ast.Call) and _dotted(value.func) == "tuple" and value.args:
            value = value.args[0]
        if isinstance(value, ast.Name | ast.Attribute):
            return self.names(f"{symbol[0]}:{_dotted(value)}")
        elements: list[ast.expr | None] = []
        if isinstance(value, ast.Dict):
            elements = [*value.keys]
        elif isinstance(value, ast.Tuple):
            elements = [*value.elts]
        found = [
            one.value
            for one in elements
            if isinstance(one, ast.Constant) and isinstance(one.value, str)
        ]
        # An element that is not constant is unknown until the module runs.
        return tuple(found) if len(found) == len(elements) else ()

    @staticmethod
    def _with_row(symbol: Symbol, method: str) -> Symbol:
        """Restricts a table to the method's row, unless a constant key selects another."""
        module, name, row = symbol
        return (module, name, row or method) if name in TABLES else symbol

    def _record(self, symbol: Symbol) -> tuple[str, list[Symbol]]:
        """Returns a definition's text with its names resolved, and the definitions it reaches."""
        if symbol not in self._records:
            # A name counts together with what it refers to: a changed import changes the hash.
            edges = {f"{name}={self._label(to)}": to for name, to in self._follow(symbol)}
            targets = [to for to in edges.values() if not isinstance(to, str)]
            # Using a definition imports its module, and so runs the statements at its top level.
            if symbol[1] != ALWAYS:
                targets += [(name, ALWAYS, "") for name in self._imported(symbol[0])]
            text = "\n".join([*self._dumps(symbol), *sorted(edges)])
            self._records[symbol] = text, targets
        return self._records[symbol]

    def _module(self, name: str) -> _Module | None:
        """Returns a module of the repository by its dotted name, or None for any other."""
        if name not in self._modules:
            stem = name.replace(".", "/")
            # Packages are below `src`, experiments and proofs at the root.
            places = [
                self.root / top / place
                for top in ("src", ".")
                for place in (f"{stem}.py", f"{stem}/__init__.py")
            ]
            path = next((path for path in places if path.is_file()), None)
            if path is None and (self.root / stem).is_dir():
                # A folder without __init__.py is a namespace package.
                self._modules[name] = _Module()
            else:
                source = path.read_text(encoding="utf-8") if path else None
                self._modules[name] = None if source is None else _read_module(source)
        return self._modules[name]

    def _symbol(self, origin: str, row: str) -> Symbol | str:
        """Returns the definition behind "module:name.attribute".

        Outside the repository it returns the origin itself.
        """
        if (origin, row) not in self._symbols:
            self._symbols[origin, row] = self._resolve(origin, row)
        return self._symbols[origin, row]

    def _resolve(self, origin: str, row: str) -> Symbol | str:
        where, _, attributes = origin.partition(":")
        module = self._module(where)
        if module is None:
            return origin.replace(":", ".").rstrip(".")
        name, _, rest = attributes.partition(".")
        if not name:
            return where, "", ""
        if name in module.bindings:
            return where, name, row if name in TABLES else ""
        if name in module.imports:
            further = f".{rest}" if rest and not module.imports[name].endswith(":") else rest
            return self._symbol(module.imports[name] + further, row)
        if self._module(f"{where}.{name}") is not None:
            return self._symbol(f"{where}.{name}:{rest}", row)
        # The name is made at run time: the whole module counts.
        return where, "", ""

    def _statements(self, symbol: Symbol) -> list[ast.stmt]:
        where, name, row = symbol
        module = self._module(where)
        if module is None:
            return []
        if name == ALWAYS:
            return module.always
        if not name:
            every = [one for statements in module.bindings.values() for one in statements]
            return [*module.always, *every]
        return [_one_row(statement, row) for statement in module.bindings[name]]

    def _dumps(self, symbol: Symbol) -> list[str]:
        return [_dump(statement) for statement in self._statements(symbol)]

    def _label(self, target: Symbol | str) -> str:
        """Returns what a name refers to: a foreign name, or a hash of a definition's content.

        The place of a definition does not count, so that it may move to another file.
        """
        if isinstance(target, str):
            return target
        if target[1] in TABLES and not target[2]:
            # Which row counts depends on the run: `hash` adds that row.
            return target[1]
        return hashlib.sha256("\n".join(self._dumps(target)).encode()).hexdigest()[:16]

    def _follow(self, symbol: Symbol) -> Iterator[tuple[str, Symbol | str]]:
        module = self._module(symbol[0])
        if module is None:
            return
        for statement in self._statements(symbol):
            for name, row in _references(statement):
                head = name.partition(".")[0]
                if head in module.bindings or head in module.imports:
                    yield name, self._symbol(f"{symbol[0]}:{name}", row)

    def _imported(self, name: str) -> Iterator[str]:
        """Yields the modules that run when `name` is imported: it, its parents, their imports."""
        # Imports may form cycles.
        pending, seen = [name], set()
        while pending:
            current = pending.pop()
            module = self._module(current)
            if current in seen or module is None:
                continue
            seen.add(current)
            parts = current.split(".")
            pending += [".".join(parts[:end]) for end in range(1, len(parts))]
            for origin in module.imports.values():
                where, _, imported = origin.partition(":")
                pending += [where, f"{where}.{imported}"]
        yield from seen


_ROWS: dict[tuple[ast.stmt, str], ast.stmt] = {}


def _one_row(statement: ast.stmt, row: str) -> ast.stmt:
    """Reduces a table to one row; returns any other statement as it is.

    A table without that row also stays as it is.
    """
    if (
        not row
        or not isinstance(statement, ast.Assign)
        or not isinstance(statement.value, ast.Dict)
    ):
        return statement
    keys = [key.value if isinstance(key, ast.Constant) else None for key in statement.value.keys]
    if None in keys or row not in keys:
        return statement
    # The same node for the same row, so that the caches keyed by statement hit.
    if (statement, row) not in _ROWS:
        value = statement.value.values[keys.index(row)]
        _ROWS[statement, row] = ast.Assign(
            statement.targets, ast.Dict([ast.Constant(row)], [value])
        )
    return _ROWS[statement, row]


@cache
def _dump(statement: ast.stmt) -> str:
    return ast.dump(statement)


@cache
def _code(root: Path) -> Code:
    """Returns the sources below `root`, read once per process."""
    return Code(root)


def training_hash(experiment: str, method: str = "", root: Path = ROOT) -> str:
    """Hashes the code that can change a run of one method, in canonical form.

    Without a method it hashes the code that finds or makes the experiment's data.
    """
    task = f"experiments.{experiment}.task"
    entries = [(task, "fingerprint")]
    if method:
        entries += [(task, "train"), *(("experiments.run", name) for name in ENTRIES)]
    return canonical(_code(root).hash(entries, method))


def entry_hash(module: str, name: str, root: Path = ROOT) -> str:
    """Hashes every definition that one function reaches."""
    return canonical(_code(root).hash([(module, name)], ""))


def script_hash(*paths: str, root: Path = ROOT) -> str:
    """Hashes scripts and every definition that they reach."""
    modules = [path.removesuffix(".py").removeprefix("src/").replace("/", ".") for path in paths]
    return canonical(_code(root).hash([(module, "") for module in modules], ""))


def method_names(experiment: str, root: Path = ROOT) -> tuple[str, ...]:
    """Reads the names in a task's METHODS from the source; importing a task would import torch.

    The result is empty unless METHODS is a table with constant keys, a tuple of names, or made of
    one of these.
    """
    return _code(root).names(f"experiments.{experiment}.task:METHODS")


@cache
def _moves() -> dict[str, str]:
    """Returns {hash: the oldest hash with the same results}, from experiments/moves.yaml."""
    oldest: dict[str, str] = {}
    moves = read_yaml(MOVES, "restore it from the repository") if MOVES.is_file() else []
    try:
        for move in moves:
            for methods in move["hashes"].values():
                for hashes in methods.values():
                    # A later move may start from a hash that an earlier one has mapped already.
                    first = oldest.get(hashes[0], hashes[0])
                    oldest |= {one: oldest.get(one, first) for one in hashes[1:]}
    except (AttributeError, IndexError, KeyError, TypeError):
        raise UserError(f"{MOVES} lists no moves; restore it from the repository") from None
    return oldest


def canonical(hashed: str) -> str:
    """Returns the oldest hash whose results `hashed` is recorded to repeat, or `hashed` itself."""
    return _moves().get(hashed, hashed)
