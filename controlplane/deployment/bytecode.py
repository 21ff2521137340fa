"""Makes the bytecode of the package, in the place of the sources.

Docstrings are left out, except those that the API document is made of: they are an eighth of what a cold start reads.
Asserts stay, so that what runs is what was tested. The interpreter of the runtime runs this file, because its bytecode
differs from that of others; it needs only the standard library.
"""

import ast
import importlib.util
import marshal
import sys
from pathlib import Path

# Python does not check the bytecode against the source (PEP 552).
_UNCHECKED = (1).to_bytes(4, "little")

_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


_OURS = frozenset({"apps", "controlplane"})
# The API document has the docstrings of views and serializers. So say the names of their modules and of their folders.
_DOCUMENTED = frozenset({"agent_api", "api", "documentation", "http", "identity_urls", "serializers", "views"})
# The modules of the agent that the function imports.
_IMPORTED_AGENT = ("__init__.py", "bundle.py", "pipeline/")


def bytecode(source: bytes, shown: str, *, keep_docstrings: bool = False) -> bytes:
    """The content of the .pyc file for `source`. Tracebacks show the path `shown`. Raises SyntaxError."""
    module: bytes | ast.Module = source
    level = 0
    if not keep_docstrings:
        if b"assert" in source or b"__debug__" in source:
            module = _without_docstrings(ast.parse(source, shown))
        else:
            # This level leaves out docstrings and asserts, and takes half of the time.
            level = 2
    code = compile(module, shown, "exec", dont_inherit=True, optimize=level)
    return importlib.util.MAGIC_NUMBER + _UNCHECKED + importlib.util.source_hash(source) + marshal.dumps(code)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
            text = node.body.pop(0)
            if not node.body:
                node.body.append(ast.copy_location(ast.Pass(), text))
    return tree


def main(folder: Path, root: str) -> None:
    """Replace each module of `folder`, which tracebacks show as `root`, in the order of their names.

    The agent's stay, since the function hands them out; of these it imports few, which get bytecode beside them.
    """
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        parts = Path(name).with_suffix("").parts
        is_documented = parts[0] in _OURS and not _DOCUMENTED.isdisjoint(parts)
        compiled, is_agent = path.with_suffix(".pyc"), parts[0] == "agent"
        if is_agent:
            if not name.removeprefix("agent/").startswith(_IMPORTED_AGENT):
                continue
            compiled = Path(importlib.util.cache_from_source(path, optimization=""))
            compiled.parent.mkdir(exist_ok=True)
        compiled.write_bytes(bytecode(path.read_bytes(), f"{root}/{name}", keep_docstrings=is_documented))
        if not is_agent:
            path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
