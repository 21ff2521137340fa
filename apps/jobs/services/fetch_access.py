"""With what the agent of an attempt fetches the job's repository, in the answer to the start.

A pipeline names a secret that has a token or a private key, or is bound to a connection whose GitHub App gives a token
for this one repository, which may only read. Nothing of it is stored with the job.
"""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs.models import Job
from apps.jobs.policies import attempt_require
from apps.jobs.selectors.job_origin import job_origin
from apps.jobs.services.losses import start_fail
from apps.jobs.services.secret_deliveries import Channel, attempt_stale, delivery_commit
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.addresses import is_loopback
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Unprocessable
from controlplane.nosql.transaction import Transaction

if TYPE_CHECKING:
    from apps.secrets.services.deliveries import Attempt

# What a private key begins with, in all of its forms.
_PRIVATE_KEY = "-----BEGIN "
# A user name for tokens alone. GitHub, GitLab and Gitea take any.
_TOKEN_USER = "x-access-token"
# What messages to agents are for; see `agent.fetch_access`.
_PURPOSE = "fetch"


def start_fetch_access(*, agent: Actor, job: Job, attempt: int, channel: Channel) -> str | None:
    """The credentials for fetching, encrypted for the agent of the attempt; None if it uses what its machine has.

    An agent that is too old for them uses that, too. If what the pipeline names cannot be had, the job fails. Raises
    Conflict as `delivery_commit`, or with code ``stale_attempt`` if the job has failed; InvalidInput for the key;
    Unavailable and RetryLater when the provider does not answer.
    """
    if not job.fetch_with or channel.public_key is None:
        return None
    try:
        return _access(agent, job, attempt, channel)
    except Unprocessable as error:
        started = attempt_require(Job.find(job.job_id), agent_id=agent.id, attempt=attempt)
        start_fail(job=started, message=f"The repository cannot be fetched: {error.message}")
        raise attempt_stale() from error


def _access(agent: Actor, job: Job, attempt: int, channel: Channel) -> str | None:
    # Few jobs need them, and a cold start loads nothing of secrets.
    from apps.secrets.services.deliveries import document_encrypt, public_key_read

    kind, _, name = str(job.fetch_with).partition(":")
    receiver = _receiver(job, attempt, channel)
    tx = Transaction()
    find = _of_secret if kind == "secret" else _of_connection
    document = find(tx, agent, job, receiver, name)
    if document is None:
        return None
    key = public_key_read(str(channel.public_key))
    encrypted = document_encrypt(document, purpose=_PURPOSE, agent=agent, attempt=receiver, public_key=key)
    delivery_commit(tx, agent=agent, job=job, attempt=attempt, key=key)
    return encrypted


def _receiver(job: Job, attempt: int, channel: Channel) -> "Attempt":
    """The attempt, for a secret that its steps never see: it counts neither that others have proposed what they run."""
    from apps.secrets.services.deliveries import Attempt
    from apps.secrets.states import Recipient

    return Attempt(
        job_id=str(job.job_id),
        number=attempt,
        run_id=str(job.run_id),
        recipient=Recipient(
            pipeline=str(job.pipeline),
            branch=job_origin(job).branch,
            environment=None,
            is_proposed=False,
            is_from_fork=False,
        ),
        targets=channel.targets,
    )


def _of_secret(tx: Transaction, agent: Actor, job: Job, receiver: "Attempt", name: str) -> dict[str, str]:
    """What the secret has: a private key, ``user:token``, or a token alone. Raises Unprocessable."""
    from apps.secrets.services.deliveries import secret_take

    secret_id, value = secret_take(tx, agent=agent, attempt=receiver, name=name, use="fetch")
    value, realm = value.strip(), f"secret:{secret_id}"
    server = _server(str(job.repository))
    if value.startswith(_PRIVATE_KEY):
        if "://" in str(job.repository) and not str(job.repository).startswith("ssh://"):
            raise _unfit(
                f"The secret {name} has a private key, which needs an address of SSH: ssh:// or user@host:path."
            )
        return {"private_key": value, "realm": realm}
    if server is None:
        raise _unfit(f"The secret {name} has a token, which needs an https address of the repository.")
    user, separator, token = value.partition(":")
    if not separator:
        user, token = _TOKEN_USER, value
    if not token or not value.isprintable():
        raise _unfit(f"The secret {name} must have a token, user:token, or a private key for SSH.")
    # Strangers may name any submodule of the server, so for what they propose the token opens this repository alone.
    url = str(job.repository) if job_origin(job).is_proposed else server
    return {"url": url, "username": user, "password": token, "realm": realm}


def _of_connection(
    tx: Transaction, agent: Actor, job: Job, receiver: "Attempt", connection_id: str
) -> dict[str, str] | None:
    """A token for the repository alone, if the connection gives one for it. Raises Unprocessable."""
    from apps.sources.providers.interface import provider_has, provider_of
    from apps.sources.selectors import connection_find

    connection = connection_find(connection_id)
    if connection is None:
        raise _unfit(f"The connection {connection_id} of its pipeline is deleted.")
    full_name = _below(str(job.repository), connection.web_url)
    if full_name is None or not provider_has(connection.provider, "clone_credentials"):
        return None
    credentials = provider_of(connection.provider).clone_credentials(connection, full_name)
    if credentials is None or not credentials.password:
        return None
    audit_add(
        tx,
        actor=agent,
        action=Action.CONNECTION_TOKEN_DELIVERED,
        target=f"connection:{connection_id}",
        detail={
            "repository": full_name,
            "expires_at": clock.timestamp(credentials.expires_at) if credentials.expires_at else None,
            **receiver.detail(),
        },
    )
    return {
        "url": credentials.url,
        "username": credentials.username or _TOKEN_USER,
        "password": credentials.password,
        "realm": f"connection:{connection_id}",
    }


def _server(url: str) -> str | None:
    """The address of the server of a repository, with a slash at the end, if a password may be sent to it."""
    parts = urlsplit(url)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))):
        return None
    return f"{parts.scheme}://{parts.netloc}/"


def _below(repository: str, web_url: str | None) -> str | None:
    """The full name of a repository whose address is below that of the provider; None for another one."""
    if not web_url or _server(web_url) is None or not repository.startswith(f"{web_url}/"):
        return None
    return repository[len(web_url) + 1 :].rstrip("/").removesuffix(".git")


def _unfit(message: str) -> Unprocessable:
    return Unprocessable(message, code=ErrorCode.SOURCE_REFUSED)
