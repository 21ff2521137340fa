"""What the contracts in pyproject.toml allow, and what the tables of docs/architecture.md say."""

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
_BY_NAME = {contract["name"]: contract for contract in CONTRACTS}


@cache
def within(module: str, expression: str) -> bool:
    """Whether a module is what an expression like ``apps.*.models`` names, or is in it."""
    names, patterns = module.split("."), expression.split(".")
    return len(names) >= len(patterns) and all(
        pattern in ("*", name) for name, pattern in zip(names, patterns, strict=False)
    )


def refused_by(importer: str, imported: str) -> list[str]:
    """The names of the contracts that refuse this import."""
    return [
        contract["name"]
        for contract in CONTRACTS
        if contract["type"] in _REFUSES and _REFUSES[contract["type"]](contract, importer, imported)
    ]


def _layers_refuse(contract: dict[str, Any], importer: str, imported: str) -> bool:
    places = (_layer(contract["name"], importer), _layer(contract["name"], imported))
    if places[0] is None or places[1] is None or places[0][0] != places[1][0]:
        return False
    (_, above, part), (_, below, other) = places
    return part != other and above >= below


@cache
def _layer(contract: str, module: str) -> tuple[str, int, str] | None:
    """The container of a module in the contract of that name, its layer, and its part."""
    for container in _BY_NAME[contract]["containers"]:
        depth = container.count(".") + 1
        names = module.split(".")
        if within(module, container) and len(names) > depth:
            for level, parts in enumerate(layers(_BY_NAME[contract])):
                if names[depth] in parts:
                    return ".".join(names[:depth]), level, names[depth]
    return None


def layers(contract: dict[str, Any]) -> list[set[str]]:
    """The layers from the highest to the lowest, each with the parts in it."""
    return [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]


@cache
def _named(contract: str, role: str, module: str) -> tuple[str, ...]:
    """The module, and what it is in, as far as the contract of that name lists them in this role."""
    names = module.split(".")
    return tuple(
        ".".join(names[: expression.count(".") + 1])
        for expression in _BY_NAME[contract][role]
        if within(module, expression)
    )


def _protected_refuse(contract: dict[str, Any], importer: str, imported: str) -> bool:
    if f"{importer} -> {imported}" in contract.get("ignore_imports", ()):
        return False
    return any(
        not within(importer, protected) for protected in _named(contract["name"], "protected_modules", imported)
    ) and not _named(contract["name"], "allowed_importers", importer)


def _forbidden_refuse(contract: dict[str, Any], importer: str, imported: str) -> bool:
    sources = _named(contract["name"], "source_modules", importer)
    return bool(sources and _named(contract["name"], "forbidden_modules", imported))


_REFUSES = {"layers": _layers_refuse, "protected": _protected_refuse, "forbidden": _forbidden_refuse}


def _table(first: str) -> list[list[str]]:
    """The rows of the page's table whose first line begins so."""
    rows = PAGE[PAGE.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def _names(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([\w.]+)`", cell))


# By the room: what it may import.
ROOMS: dict[str, tuple[str, ...]] = {}
for _row in _table("room"):
    for _room in _names(_row[0]):
        _shared = ROOMS["controlplane.management"] if _row[2].startswith("as ") else ()
        ROOMS[_room] = (*_names(_row[2]), *_shared)

LIBRARIES = tuple(sorted({name for names in ROOMS.values() for name in names if name not in ROOMS}))

# By the app: its place in the order.
APPS = {_names(row[1])[0]: int(row[0]) for row in _table("order")}

OPEN = _names(PAGE[PAGE.index("they are called open:") :].split(".")[0])


# By the part that is open to some: to which.
OPEN_TO = {_names(row[0])[0]: _names(row[1]) for row in _table("open part")}


@dataclass(frozen=True)
class Part:
    level: int
    # Parts below that it may not import, and open parts of other apps.
    own_closed: Sequence[str]
    others_closed: Sequence[str]
    rooms: Sequence[str]

    def may_import(self, name: str) -> bool:
        """Of its own app, a part of that name."""
        return PARTS[name].level < self.level and name not in self.own_closed

    def may_import_foreign(self, name: str) -> bool:
        """Of an app below, a part of that name."""
        return name in OPEN and name not in self.others_closed


PARTS = {
    name: Part(int(row[0]), _names(row[3]), _names(row[4]), _names(row[5]))
    for row in _table("level")
    for name in _names(row[1])
}


def parts_of(app: str) -> Iterator[str]:
    """The parts that an app has, from its files."""
    for path in sorted((ROOT / "apps" / app).iterdir()):
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__":
            yield path.stem
