"""The tables of docs/architecture.md and the contracts in pyproject.toml say the same."""

from tests.architecture.contracts import (
    APPS,
    CONTRACTS,
    LIBRARIES,
    OPEN,
    OPEN_TO,
    PARTS,
    ROOMS,
    ROOT,
    layers,
    parts_of,
    refused_by,
    within,
)


def _disagreement(importer: str, imported: str, *, page: bool) -> str | None:
    """None if the contracts allow the import when the page does, and refuse it when the page does."""
    refusals = refused_by(importer, imported)
    if page == (not refusals):
        return None
    return f"{importer} -> {imported}: the page {'allows' if page else 'refuses'} it; contracts that refuse: {refusals}"


def test_rooms_may_import_what_their_row_says() -> None:
    found = [
        _disagreement(room, target, page=any(within(target, name) for name in names))
        for room, names in ROOMS.items()
        for target in (*ROOMS, *LIBRARIES)
        if room != "apps" and not _together(room, target)
    ]
    assert [text for text in found if text] == []


def test_parts_of_an_app_may_import_what_their_row_says() -> None:
    found = [
        _disagreement(f"apps.{app}.{part}", f"apps.{app}.{other}", page=PARTS[part].may_import(other))
        for app in APPS
        for part in parts_of(app)
        for other in parts_of(app)
        if other != part
    ]
    assert [text for text in found if text] == []


def test_parts_may_import_the_open_parts_of_apps_below() -> None:
    found = [
        _disagreement(
            f"apps.{app}.{part}",
            f"apps.{below}.{other}",
            page=APPS[below] < APPS[app]
            and (
                PARTS[part].may_import_foreign(other)
                or f"apps.{app}.{part}" in OPEN_TO.get(f"apps.{below}.{other}", ())
            ),
        )
        for app in APPS
        for below in APPS
        for part in parts_of(app)
        for other in parts_of(below)
        if app != below
    ]
    assert [text for text in found if text] == []


def test_parts_may_import_what_their_row_says_of_the_control_plane_and_libraries() -> None:
    found = [
        _disagreement(f"apps.{app}.{part}", target, page=target in PARTS[part].rooms)
        for app in APPS
        for part in parts_of(app)
        for target in (*ROOMS, *LIBRARIES)
        if target != "apps"
    ]
    assert [text for text in found if text] == []


def test_everything_has_a_row() -> None:
    (parts,) = (contract for contract in CONTRACTS if contract["name"] == "Parts of an app in order")
    assert set.union(*layers(parts)) == set(PARTS) == {part for app in APPS for part in parts_of(app)}
    assert set(OPEN) <= set(PARTS)
    assert set(APPS) == {path.parent.name for path in (ROOT / "apps").glob("*/__init__.py")}
    (rooms,) = (contract for contract in CONTRACTS if contract["name"] == "Rooms of the control plane in order")
    assert set.union(*layers(rooms)) == {room.split(".")[1] for room in ROOMS if "." in room}


def _together(room: str, target: str) -> bool:
    """One is in the other, or both are in nosql, whose modules may import each other."""
    return within(room, target) or within(target, room) or all("nosql" in name for name in (room, target))
