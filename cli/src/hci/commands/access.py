"""``hci login``, ``logout`` and ``whoami``."""

from __future__ import annotations

import os
import sys

import click

from hci import endpoints, output
from hci.client import Client, Json
from hci.config import Profile, profile_find, profile_name, profile_remove, profile_save, sends_openly, server_address
from hci.credentials import token_remove, token_save
from hci.device import browser_token
from hci.errors import HciError, UsageProblem
from hci.session import HciCommand, Session, pass_session, token_checked
from hci.text import plain


@click.command(cls=HciCommand)
@click.option("--token-stdin", is_flag=True, help="Read an API token from standard input.")
@click.option("--paste", is_flag=True, help="Ask for an API token, which is not shown.")
@pass_session
def login(session: Session, token_stdin: bool, paste: bool) -> None:
    """Log in: allow it in your browser, or give an API token. It is kept in the system's keyring or a file of your own.

    In the browser you are asked for a code, which this command shows. You make API tokens on the page “API tokens” of
    the control plane (/account/tokens).
    """
    if token_stdin and paste:
        raise UsageProblem("Give --token-stdin or --paste, not both.")
    name = profile_name(session.profile)
    known = profile_find(name)
    given = session.server or os.environ.get("HCI_SERVER") or (known.server if known else None)
    if given is None:
        raise UsageProblem("Say which control plane: hci login --server https://ci.example.com")
    server = server_address(given)
    stranger = Client(server)
    try:
        info = stranger.json(endpoints.INFO)
        if sends_openly(server):
            output.notice("Warning: this address is not encrypted, so others in the network can read your token.")
        token = _token_read(stranger, from_stdin=token_stdin, from_browser=not paste)
    finally:
        stranger.close()
    client = Client(server, token)
    try:
        found = client.json(endpoints.WHOAMI)
    finally:
        client.close()
    if known is not None and known.server != server:
        _forget(known)
    store = token_save(name, server, token)
    profile_save(Profile(name, server, store))
    found = {**found, "server": server, "profile": name, "store": store, "version": info.get("version")}
    if session.as_json:
        output.document(found)
    else:
        place = "the system's keyring" if store == "keyring" else "a file that only you can read"
        session.notice(f"Logged in to {server} as {plain(found.get('name'))}. The token is in {place}.")


def _forget(profile: Profile) -> None:
    """Remove the token of the address that the profile had before, if it can be."""
    try:
        token_remove(profile)
    except HciError as error:
        output.notice(f"The token for {profile.server} is not removed: {error.message}")


def _token_read(client: Client, *, from_stdin: bool, from_browser: bool) -> str:
    if from_stdin:
        return token_checked(sys.stdin.readline(8192))
    if not sys.stdin.isatty():
        raise UsageProblem("There is no terminal to ask on. Give the token to standard input, with --token-stdin.")
    allowed = browser_token(client) if from_browser else None
    if allowed is not None:
        return token_checked(allowed)
    output.notice(f"Make an API token at {client.server}/account/tokens and paste it here. It is not shown.")
    return token_checked(click.prompt("Token", hide_input=True, err=True))


@click.command(cls=HciCommand)
@pass_session
def logout(session: Session) -> None:
    """Forget the token. It stays valid until you revoke it on the page “API tokens”."""
    name = profile_name(session.profile)
    profile = profile_find(name)
    if profile is None:
        session.notice("You are not logged in.")
        return
    token_remove(profile)
    profile_remove(name)
    if session.as_json:
        output.document({"profile": name, "server": profile.server})
    else:
        session.notice(f"Logged out. The token stays valid until you revoke it: {profile.server}/account/tokens")


@click.command(cls=HciCommand)
@pass_session
def whoami(session: Session) -> None:
    """Say which control plane and user the token is for, and what it may do."""
    client = session.client
    found = {**client.json(endpoints.WHOAMI), "server": client.server}
    if not os.environ.get("HCI_TOKEN"):
        found["profile"] = profile_name(session.profile)
    session.show(found, "user_id", _members)


def _members(caller: Json) -> list[tuple[str, object]]:
    permissions = caller.get("permissions")
    return [
        ("Server", caller["server"]),
        ("Profile", caller.get("profile")),
        ("Name", caller.get("name")),
        ("User", caller.get("user_id")),
        ("May", ", ".join(map(str, permissions)) if isinstance(permissions, list) else None),
    ]
