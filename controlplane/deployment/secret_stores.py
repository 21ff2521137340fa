"""Where the secrets of a stage are stored on AWS: Parameter Store, or Secrets Manager. The function reads them.

They are encrypted with the stage's own key, so that the permission to read parameters is not enough to see them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from controlplane.infrastructure.clients import Account, aws_errors
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.names import PROJECT, key_alias
from controlplane.lib.stage_secrets import PARAMETER_STORE, SECRET_SETTINGS, SECRETS_MANAGER, secret_path

# A standard parameter holds so many bytes.
_MOST_CHARACTERS = 4096


@dataclass(frozen=True)
class StoredSecret:
    """A stored secret, without its value. `changed` is when it was set."""

    name: str
    changed: datetime


class SecretStore(ABC):
    """The secrets of one stage. All methods raise InfrastructureError for what AWS refuses."""

    def __init__(self, stage: str, client: Any) -> None:
        self._stage = stage
        self._path = secret_path(stage)
        self._client = client

    @abstractmethod
    def stored(self) -> list[StoredSecret]:
        """The stored secrets by name. Their values are not read."""

    @abstractmethod
    def set(self, name: str, value: str) -> None:
        """Store a value, in place of an earlier one."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a secret for good. Raises InfrastructureError when it is not stored."""

    def _tags(self) -> list[dict[str, str]]:
        return [{"Key": "project", "Value": PROJECT}, {"Key": "stage", "Value": self._stage}]

    @contextmanager
    def _key_needed(self) -> Iterator[None]:
        with aws_errors():
            try:
                yield
            except ClientError as error:
                if error.response["Error"]["Code"] not in ("InvalidKeyId", "NotFoundException", "EncryptionFailure"):
                    raise
                raise InfrastructureError(
                    f"The key of {self._stage} does not exist yet. "
                    f"Type: manage.py infrastructure deploy --stage {self._stage}"
                ) from error

    @contextmanager
    def _name_needed(self, name: str) -> Iterator[None]:
        with aws_errors():
            try:
                yield
            except ClientError as error:
                if error.response["Error"]["Code"] not in ("ParameterNotFound", "ResourceNotFoundException"):
                    raise
                raise InfrastructureError(f"The secret {name} of {self._stage} is not stored.") from error


class ParameterStore(SecretStore):
    """SecureStrings of Systems Manager. They cost nothing."""

    def stored(self) -> list[StoredSecret]:
        filters = [{"Key": "Path", "Option": "Recursive", "Values": [f"/{self._path.rstrip('/')}"]}]
        with aws_errors():
            pages = self._client.get_paginator("describe_parameters").paginate(ParameterFilters=filters)
            return [
                StoredSecret(found["Name"].removeprefix(f"/{self._path}"), found["LastModifiedDate"])
                for page in pages
                for found in page["Parameters"]
            ]

    def set(self, name: str, value: str) -> None:
        parameter = {"Name": f"/{self._path}{name}", "Value": value, "Type": "SecureString"}
        with self._key_needed():
            self._client.put_parameter(**parameter, KeyId=key_alias(self._stage), Overwrite=True)
            self._client.add_tags_to_resource(ResourceType="Parameter", ResourceId=parameter["Name"], Tags=self._tags())

    def delete(self, name: str) -> None:
        with self._name_needed(name):
            self._client.delete_parameter(Name=f"/{self._path}{name}")


class SecretsManager(SecretStore):
    """Secrets of Secrets Manager. Each costs $0.40 a month."""

    def stored(self) -> list[StoredSecret]:
        filters = [{"Key": "name", "Values": [self._path]}]
        with aws_errors():
            pages = self._client.get_paginator("list_secrets").paginate(Filters=filters)
            return [
                StoredSecret(found["Name"].removeprefix(self._path), found["LastChangedDate"])
                for page in pages
                for found in page["SecretList"]
                if found["Name"].startswith(self._path)
            ]

    def set(self, name: str, value: str) -> None:
        with self._key_needed():
            try:
                self._client.create_secret(
                    Name=self._path + name, SecretString=value, KmsKeyId=key_alias(self._stage), Tags=self._tags()
                )
            except self._client.exceptions.ResourceExistsException:
                self._client.put_secret_value(SecretId=self._path + name, SecretString=value)

    def delete(self, name: str) -> None:
        with self._name_needed(name):
            # With ForceDeleteWithoutRecovery, DeleteSecret reports success for a secret that does not exist.
            self._client.describe_secret(SecretId=self._path + name)
            self._client.delete_secret(SecretId=self._path + name, ForceDeleteWithoutRecovery=True)


def secret_store(stage: str, account: Account, environment: Mapping[str, str]) -> SecretStore:
    """The store that SECRETS_STORE in `environment` names. Raises InfrastructureError for any other value."""
    kind = environment.get("SECRETS_STORE") or PARAMETER_STORE
    if kind == PARAMETER_STORE:
        return ParameterStore(stage, account.client("ssm"))
    if kind == SECRETS_MANAGER:
        return SecretsManager(stage, account.client("secretsmanager"))
    raise InfrastructureError(f"SECRETS_STORE must be {PARAMETER_STORE} or {SECRETS_MANAGER}, not {kind!r}.")


def secret_check(name: str, value: str) -> None:
    """Refuse a value with which the function would not start. Raises InfrastructureError that names the secret."""
    if name not in SECRET_SETTINGS:
        raise InfrastructureError(
            f"{name} is no secret of a stage. Those are {', '.join(SECRET_SETTINGS)}; "
            "all other settings are in the file of the stage."
        )
    if not value or value != value.strip() or not value.isprintable():
        raise InfrastructureError(f"{name} must be one line of printable characters, without spaces around it.")
    if value.startswith("$"):
        # django-environ takes it for the name of another setting.
        raise InfrastructureError(f"{name} must not begin with a dollar sign.")
    if len(value) > _MOST_CHARACTERS:
        raise InfrastructureError(f"{name} must have at most {_MOST_CHARACTERS} characters.")
