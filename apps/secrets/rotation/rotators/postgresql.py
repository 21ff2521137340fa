"""The password of a role of PostgreSQL: two roles in turn, so that the old one works until the overlap ends.

The value is the address that clients connect to: ``postgresql://role:password@host:5432/database?sslmode=verify-full``.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar
from urllib.parse import quote, unquote, urlsplit

from apps.secrets.rotation.calls import server_require
from controlplane.lib.errors import Unavailable
from controlplane.lib.rotation import Notes, Option, Rotator, Step, StepRefused, secret_option

_ROLE = r"[a-z_][a-z0-9_]{0,62}"
_TIMEOUT_SECONDS = 10
_PASSWORD_BYTES = 32
# PostgreSQL's own number of rounds.
_SCRAM_ROUNDS = 4096
_PORT = 5432

# SQLSTATE codes: what comes with a wrong password or a role that may not log in, and what may pass.
_NOT_LET_IN = ("28P01", "28000")
_TRANSIENT = ("08", "40", "53", "55", "57")


class PostgresqlPassword(Rotator):
    """Both roles must exist and have the same rights, for example as members of a third role that owns the tables.

    The admin's role must be allowed to change them (CREATEROLE; since PostgreSQL 16 also ADMIN OPTION for both).
    """

    title = "PostgreSQL password"
    options: ClassVar[Mapping[str, Option]] = {
        "host": Option("must be the host of the server", pattern=r"[A-Za-z0-9.-]{1,253}"),
        "port": Option("must be a port", kind=int, least=1, most=65535, default=_PORT),
        "database": Option("must be the name of the database", pattern=r"[A-Za-z0-9_.-]{1,63}"),
        "roles": Option("must be two different roles", kind=list, pattern=_ROLE, least=2, most=2),
        "admin_role": Option("must be the role that may change both", pattern=_ROLE),
        "admin_secret": secret_option("the password of the admin's role"),
        "tls": Option("must be true, or false for a server without TLS", kind=bool, default=True),
        "ca_certificate": Option(
            "must be the certificate of the server's CA in PEM, or left out for a public one",
            pattern=r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s-]{1,20000}-----END CERTIFICATE-----\s*",
            default="",
        ),
    }

    def place(self, config: Mapping[str, Any]) -> str:
        return f"the roles {' and '.join(config['roles'])} at {config['host']}"

    def check(self, config: Mapping[str, Any]) -> None:
        first, second = config["roles"]
        if first == second or config["admin_role"] in (first, second):
            raise ValueError("roles", "must be two different roles, and not the admin's")

    def prepare(self, step: Step) -> Notes | None:
        roles = step.config["roles"]
        with self._admin(step) as connection:
            found = connection.run("SELECT rolname FROM pg_roles WHERE rolname IN (:a, :b)", a=roles[0], b=roles[1])
        missing = {*roles} - {name for (name,) in found}
        if missing:
            raise StepRefused(f"The server has no role {', '.join(sorted(missing))}. Create it first.")
        return {"role": self._next_role(step)}

    def make(self, step: Step) -> str:
        config = step.config
        # RFC 3986 needs none of these escaped.
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        mode = "?sslmode=verify-full" if config["tls"] else ""
        return (
            f"postgresql://{self._next_role(step)}:{password}@{config['host']}:{config['port']}"
            f"/{quote(config['database'], safe='')}{mode}"
        )

    def apply(self, step: Step) -> Notes | None:
        role, password = _role_of(step.new)
        if not self._lets_in(step, role, password):
            # The server gets a verifier, so that no log of its statements has the password.
            self._password_set(step, role, f"'{scram_verifier(password)}'")
        return None

    def verify(self, step: Step) -> Notes | None:
        role, password = _role_of(step.new)
        if not self._lets_in(step, role, password):
            raise StepRefused(f"The server does not let the role {role} in with its new password.")
        return None

    def commit(self, step: Step) -> Notes | None:
        role, _ = _role_of(step.old)
        if role in step.config["roles"] and role != _role_of(step.new)[0]:
            self._password_set(step, role, "NULL")
        return None

    def revert(self, step: Step) -> Notes | None:
        self._password_set(step, _role_of(step.new)[0], "NULL")
        return None

    def _next_role(self, step: Step) -> str:
        first, second = step.config["roles"]
        return str(second if _role_of(step.old)[0] == first else first)

    def _password_set(self, step: Step, role: str, password: str) -> None:
        if role not in step.config["roles"]:
            raise StepRefused("The value names a role that the configuration does not have.")
        with self._admin(step) as connection:
            # No parameters are possible here. The role has letters, digits and _ only, and a verifier has no quote.
            connection.run(f'ALTER ROLE "{role}" WITH LOGIN PASSWORD {password}')

    def _lets_in(self, step: Step, role: str, password: str) -> bool:
        try:
            with self._connection(step, role, password) as connection:
                ((user,),) = connection.run("SELECT current_user")
                return bool(user == role)
        except _NotLetIn:
            return False

    @contextmanager
    def _admin(self, step: Step) -> Iterator[Any]:
        config = step.config
        try:
            with self._connection(step, config["admin_role"], step.credential(config["admin_secret"])) as connection:
                yield connection
        except _NotLetIn:
            role, secret_id = config["admin_role"], config["admin_secret"]
            raise StepRefused(f"The server does not let the role {role} in. Check the secret {secret_id}.") from None

    @contextmanager
    def _connection(self, step: Step, role: str, password: str) -> Iterator[Any]:
        """A connection. Raises _NotLetIn for wrong credentials, StepRefused, Unavailable."""
        try:
            from pg8000.exceptions import DatabaseError, InterfaceError
            from pg8000.native import Connection
        except ImportError:
            raise StepRefused("The package pg8000 is not installed. Install requirements/runtime.txt.") from None
        config = step.config
        server_require(config["host"], config["port"])
        try:
            connection = Connection(
                role,
                host=config["host"],
                port=config["port"],
                database=config["database"],
                password=password,
                timeout=_TIMEOUT_SECONDS,
                ssl_context=_tls(config["ca_certificate"]) if config["tls"] else False,
                application_name="hybrid-ci-cd rotation",
            )
            try:
                yield connection
            finally:
                connection.close()
        except DatabaseError as error:
            raise _failure(error, config["host"]) from None
        except (InterfaceError, OSError) as error:
            raise Unavailable(f"{config['host']} did not answer ({type(error).__name__}).") from None


class _NotLetIn(Exception):
    """The server does not accept role and password."""


def _failure(error: Exception, host: str) -> Exception:
    """What a server's error means. Its text is left out, since it can have parts of statements."""
    members = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    code = str(members.get("C", ""))
    if code in _NOT_LET_IN:
        return _NotLetIn()
    if code.startswith(_TRANSIENT):
        return Unavailable(f"{host} answered with the error {code}.")
    return StepRefused(f"{host} answered with the error {code} of PostgreSQL. See its log.")


def _tls(ca_certificate: str) -> Any:
    import ssl

    if ca_certificate:
        return ssl.create_default_context(cadata=ca_certificate)
    from certifi import where

    return ssl.create_default_context(cafile=where())


def _role_of(value: str) -> tuple[str, str]:
    """The role and the password in an address; empty for a value that is none."""
    try:
        parts = urlsplit(value)
        is_address = parts.scheme in ("postgresql", "postgres")
        return (unquote(parts.username or ""), unquote(parts.password or "")) if is_address else ("", "")
    except ValueError:
        return "", ""


def scram_verifier(password: str, *, salt: bytes | None = None) -> str:
    """What PostgreSQL stores of an ASCII password for SCRAM-SHA-256 (RFC 5802 section 3, RFC 7677)."""
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ROUNDS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${_SCRAM_ROUNDS}:{parts[0]}${parts[1]}:{parts[2]}"
