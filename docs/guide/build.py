"""Makes what is generated of the guide: ``python -m docs.guide.build``, or ``make guide``.

The reference in pipelines.md comes from the table of the reader, between two marks. The pages under ``/guide`` are
rendered from the Markdown files into templates, so that the control plane needs no Markdown library. A test compares
both with what is in the repository.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from agent.pipeline.expressions import FACTS, FUNCTIONS, NAMED, OPERATORS
from agent.pipeline.fields import Either, Key, Kind, ListOf, MappingOf, Members, Optionally
from agent.pipeline.table import DEFINITION, GRAPH

FOLDER = Path(__file__).parent
TEMPLATES = FOLDER.parents[1] / "templates" / "guide"
GUIDE = FOLDER / "pipelines.md"

# The mappings of the format, in the order of the guide. `defaults` and the file's `concurrency` have keys that another
# section explains.
_SECTIONS = {
    "": "Keys of the file",
    "jobs.NAME": "Keys of a job",
    "jobs.NAME.steps[]": "Keys of a step",
    "jobs.NAME.needs[]": "Keys of an entry of `needs`",
    "jobs.NAME.matrix": "Keys of `matrix`",
    "jobs.NAME.retries": "Keys of `retries`",
    "jobs.NAME.concurrency": "Keys of `concurrency`",
    "jobs.NAME.artifacts": "Keys of `artifacts`",
    "jobs.NAME.caches[]": "Keys of an entry of `caches`",
    "jobs.NAME.secrets[]": "Keys of an entry of `secrets`",
    "jobs.NAME.reports": "Keys of `reports`",
    "parameters.NAME": "Keys of a parameter",
    "on": "Keys of `on`",
    "on.push": "Keys of `on.push`",
    "on.pull_request": "Keys of `on.pull_request`",
    "on.tag": "Keys of `on.tag`",
    "on.schedule[]": "Keys of an entry of `on.schedule`",
}


@dataclass(frozen=True)
class Entry:
    """A key of the format: its path without its own name, its name, and whether it must be given."""

    parent: str
    name: str
    key: Key
    required: bool


def entries() -> list[Entry]:
    """Every key of a file with jobs, each mapping once."""
    found = [*_entries(GRAPH, "")]
    return [entry for entry in found if not entry.parent.startswith(("defaults", "concurrency"))]


def _entries(kind: Kind[Any], path: str) -> Iterator[Entry]:
    if isinstance(kind, ListOf):
        yield from _entries(kind.kind, f"{path}[]")
    elif isinstance(kind, MappingOf):
        yield from _entries(kind.kind, f"{path}.NAME")
    elif isinstance(kind, Either):
        yield from _entries(kind.mapping, path)
    elif isinstance(kind, Optionally):
        yield from _entries(kind.kind, path)
    elif isinstance(kind, Members):
        for name, key in kind.keys.items():
            yield Entry(path, name, key, name in kind.required)
            yield from _entries(key.kind, f"{path}.{name}" if path else name)


def example_file(entry: Entry) -> str:
    """A whole file with the example of a key in it, where its expressions find what they name."""
    example = plain(entry.key.example)
    file: Any = plain(
        "parameters: {target: {type: choice, options: [staging, production]}}\n"
        "jobs:\n"
        "  build: {outputs: [VERSION], steps: [{run: make}]}\n"
        "  lint: {steps: [{run: make}]}\n"
        "  NAME:\n"
        "    needs: build\n"
        "    matrix: {axes: {python: ['3.11', '3.12'], os: [linux, macos]}}\n"
        "    steps: [{run: make}]\n"
    )
    if entry.parent == "parameters.NAME":
        file["parameters"]["NAME"] = {"type": "choice"} if entry.name == "options" else {}
    place = file
    path = ""
    for part in entry.parent.split(".") if entry.parent else ():
        path = f"{path}.{part}".lstrip(".")
        name = part.removesuffix("[]")
        parent, _, _ = path.rpartition(".")
        if name not in place or isinstance(place[name], str):
            (above,) = (other for other in entries() if (other.parent, other.name) == (parent, name))
            place |= plain(above.key.example)
        place = place[name][0] if part.endswith("[]") else place[name]
        if isinstance(place, str):
            place = {}
    if entry.parent == "jobs.NAME.needs[]":
        place = {"job": "build"}
        file["jobs"]["NAME"]["needs"] = [place]
    if entry.parent == "jobs.NAME.secrets[]":
        place = {"name": "KUBECONFIG"}
        file["jobs"]["NAME"]["secrets"] = [place]
    if isinstance(place, dict):
        place |= example
    return yaml.safe_dump(file, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """Reads YAML as editors do (1.2), so that `on` is a key and no truth value."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 — as in PyYAML's class


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(?:true|false)$"), [*"tf"])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile("[0-9]+$"), [*"0123456789"])


def plain(text: str) -> Any:
    """What the YAML text says."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 — it makes nothing that SafeLoader does not


def reference() -> str:
    """The keys of the format, as Markdown."""
    parts = []
    for parent, title in _SECTIONS.items():
        parts.append(f"### {title}\n")
        for entry in entries():
            if entry.parent == parent:
                needed = " Required." if entry.required else ""
                parts.append(f"#### `{entry.name}`\n\n{entry.key.description}{needed}\n")
                parts.append(f"```yaml\n{entry.key.example}\n```\n")
    steps = ", ".join(f"`{name}`" for name in DEFINITION.keys)
    parts.append(f"### Keys of the form `steps:`\n\nA file with `steps` has these keys, and no others: {steps}.\n")
    return "\n".join(parts)


def expression_tables() -> str:
    """The language of expressions, as Markdown."""
    calls = {f"{name}({', '.join(arguments)})": text for name, (arguments, text) in FUNCTIONS.items()}
    tables = (("name", FACTS | NAMED), ("function", calls), ("written", OPERATORS))
    return "\n".join(
        f"| {title} | what it is |\n|---|---|\n"
        + "".join(f"| {_code(name)} | {text[0].upper()}{text[1:]}. |\n" for name, text in rows.items())
        for title, rows in tables
    )


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def guide_text() -> str:
    """pipelines.md with its generated parts as they must be."""
    text = GUIDE.read_text()
    for name, made in (("reference", reference()), ("expressions", expression_tables())):
        begin, end = f"<!-- {name}: made by make guide -->\n", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{made}\n{end}{after}"
    return text


# --- pages ----------------------------------------------------------------------------------------------------------


def page(guide: str, text: str) -> str:
    """The template of the page of this guide: its contents beside it, and the text."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(re.sub(r"<!--.*?-->\n?", "", text))
    seen: dict[str, int] = {}
    contents = []
    title = ""
    for position, token in enumerate(tokens):
        if token.type == "fence":
            # Lines are wrapped, so that nothing has to be scrolled by keyboard.
            token.type, token.content = (
                "html_block",
                f'<pre class="command"><code>{escape(token.content)}</code></pre>\n',
            )
        elif token.type == "heading_open":
            inline = tokens[position + 1]
            name = _slug(inline.content, seen)
            token.attrSet("id", name)
            if token.tag == "h1":
                title = inline.content
            elif token.tag in ("h2", "h3"):
                shown = markdown.renderer.render(inline.children or [], markdown.options, {})
                contents.append(f'<li class="guide-{token.tag}"><a href="#{name}">{shown}</a></li>')
        elif token.type == "inline":
            _links_turn(token, "" if guide == GUIDE.stem else "../")
    body = markdown.renderer.render(tokens, markdown.options, {})
    return (
        '{% extends "guide/page.html" %}\n'
        f"{{% block title %}}{escape(title)}{{% endblock %}}\n"
        f"{{% block contents %}}{{% verbatim %}}\n{chr(10).join(contents)}\n{{% endverbatim %}}{{% endblock %}}\n"
        f"{{% block guide %}}{{% verbatim %}}\n{body}{{% endverbatim %}}{{% endblock %}}\n"
    )


def _slug(text: str, seen: dict[str, int]) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    seen[name] = seen.get(name, 0) + 1
    return name if seen[name] == 1 else f"{name}-{seen[name]}"


def _links_turn(token: Token, up: str) -> None:
    """Links between files of the guide become links between pages. Files that are no pages are only named.

    `up` leads from the page to the folder that has ``/guide``: below a gateway's own address that is the stage.
    """
    kept = []
    dropped = 0
    for child in token.children or []:
        target = str(child.attrGet("href") or "") if child.type == "link_open" else ""
        if ".md" in target and "://" not in target:
            name = target.partition(".md")[0]
            if "/" in name:
                dropped += 1
                continue
            address = f"{up}guide" if name == GUIDE.stem else f"{up}guide/{name}"
            child.attrSet("href", address + target.partition(".md")[2])
        if child.type == "link_close" and dropped:
            dropped -= 1
            continue
        kept.append(child)
    token.children = kept


def pages() -> dict[Path, str]:
    """Each file that is made, with its text."""
    made = {GUIDE: guide_text()}
    for source in sorted(FOLDER.glob("*.md")):
        text = made.get(source) or source.read_text()
        made[TEMPLATES / f"{source.stem}.html"] = page(source.stem, text)
    return made


def main() -> None:
    for path, text in pages().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
