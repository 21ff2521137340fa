"""What all commands share: the options that each of them takes, and the client that these name."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

import click

from hci import output
from hci.client import Client, Json, expected_form
from hci.config import DEFAULT_PROFILE, Profile, profile_find, profile_name, server_address
from hci.credentials import token_find
from hci.endpoints import Endpoint
from hci.errors import Refused, UsageProblem
from hci.output import Column
from hci.text import plain

# So many rows a table has, unless --limit says otherwise.
_ROWS = 30


@dataclass
class Session:
    """One call of the program."""

    as_json: bool = False
    quiet: bool = False
    colour_wish: str = "auto"
    profile: str | None = None
    server: str | None = None
    _clients: list[Client] = field(default_factory=list)

    @property
    def client(self) -> Client:
        """The control plane that is meant, with the token for it. Raises HciError."""
        if not self._clients:
            server, token = self.place()
            if token is None:
                raise Refused(f"There is no token for {server}.", hints=(f"Log in: hci login --server {server}",))
            self._clients.append(Client(server, token_checked(token)))
        return self._clients[0]

    def place(self) -> tuple[str, str | None]:
        """The address and the token: of HCI_TOKEN, else of the profile if that is for this address."""
        profile = self.stored_profile()
        given = self.server or os.environ.get("HCI_SERVER")
        if given is None and profile is None:
            raise UsageProblem(
                "No control plane is named.", hints=("Log in: hci login --server https://ci.example.com",)
            )
        server = server_address(given or (profile.server if profile else ""))
        if os.environ.get("HCI_TOKEN"):
            return server, os.environ["HCI_TOKEN"]
        return server, token_find(profile) if profile is not None and profile.server == server else None

    def stored_profile(self) -> Profile | None:
        name = profile_name(self.profile)
        profile = profile_find(name)
        if profile is None and name != DEFAULT_PROFILE and not (self.server or os.environ.get("HCI_SERVER")):
            raise UsageProblem(
                f"There is no profile “{name}”.", hints=(f"Make it: hci login --profile {name} --server https://…",)
            )
        return profile

    @property
    def colour(self) -> bool:
        return output.coloured(sys.stdout, self.colour_wish)

    def notice(self, text: object) -> None:
        """Say something beside the result, unless the user wants it quiet."""
        if not self.quiet:
            output.notice(text)

    def show(self, found: Json, identifier: str, pairs: Callable[[Json], Sequence[tuple[str, object]]]) -> None:
        """Print one thing: as JSON, its id alone, or its members."""
        if self.as_json:
            output.document(found)
        elif self.quiet:
            output.line(found.get(identifier))
        else:
            with expected_form():
                shown = pairs(found)
            output.fields(shown)

    def rows(
        self,
        found: Json,
        name: str,
        identifier: str,
        columns: Sequence[tuple[Column, Callable[[Json], object]]],
    ) -> None:
        """Print a list: as JSON, its ids alone, or as a table, each column with what it shows of an entry."""
        entries = found[name]
        if self.as_json:
            output.document(found)
        elif self.quiet:
            output.write("".join(f"{plain(one.get(identifier))}\n" for one in entries))
        elif entries:
            with expected_form():
                cells = [[shown(one) for _, shown in columns] for one in entries]
            output.table([column for column, _ in columns], cells, colour=self.colour)
            if found.get("next_cursor"):
                output.notice(f"These are the first {len(entries)}. See more with --limit.")
        else:
            output.notice("There are none.")

    def listed(
        self,
        endpoint: Endpoint,
        name: str,
        *,
        limit: int | None,
        query: Mapping[str, Any] | None = None,
        whole: bool = False,
        **path: str,
    ) -> Json:
        """A list, its pages joined: `limit` entries; by default all for programs, and a screenful for people."""
        if limit is None and not (self.as_json or self.quiet or whole):
            limit = _ROWS
        return self.client.pages(endpoint, name, limit=limit, query=query, **path)

    def close(self) -> None:
        for client in self._clients:
            client.close()


def token_checked(token: str) -> str:
    """The token, if it can be in a header. Raises UsageProblem, without the token."""
    token = token.strip()
    if not token or len(token) > 4096 or not all("!" <= letter <= "~" for letter in token):
        raise UsageProblem("This is no API token: a token has visible ASCII characters only.")
    return token


def _kept(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def keep(context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        if value is not None and value is not False:
            setattr(context.ensure_object(Session), name, value)
        return value

    return keep


def _option(names: list[str], keeps: str, **options: Any) -> click.Option:
    return click.Option(names, expose_value=False, callback=_kept(keeps), **options)


def _common() -> list[click.Parameter]:
    return [
        _option(["--json"], "as_json", is_flag=True, help="Print the API's JSON."),
        _option(["-q", "--quiet"], "quiet", is_flag=True, help="Print ids alone, and no notices."),
        _option(["--profile"], "profile", metavar="NAME", help="Which profile. Default: HCI_PROFILE, or “default”."),
        _option(["--server"], "server", metavar="URL", help="Whose address. Default: HCI_SERVER, or the profile's."),
        _option(
            ["--color", "--colour"],
            "colour_wish",
            type=click.Choice(["auto", "always", "never"]),
            help="Colours; auto: on a terminal.",
        ),
    ]


class HciCommand(click.Command):
    """A command that takes the options that all have."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params = [*self.params, *_common()]


class HciGroup(click.Group):
    """A group of such commands, which takes these options, too."""

    command_class = HciCommand

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params = [*self.params, *_common()]


HciGroup.group_class = HciGroup

limit_option = click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help=f"At most so many. Default: {_ROWS} in a table; all with --json and --quiet.",
)
pass_session = click.make_pass_decorator(Session, ensure=True)
