"""AWS as moto has it: a user with access keys, a secret of Secrets Manager and parameters."""

import json
from dataclasses import dataclass
from typing import Any

USER = "app"
SERVICES = ("IAM", "SECRETS_MANAGER", "SSM", "STS")


@dataclass(frozen=True)
class Aws:
    """The tests' own clients."""

    iam: Any
    secretsmanager: Any
    ssm: Any

    def keys(self) -> dict[str, str]:
        """The status of each access key of the user, by its id."""
        found = self.iam.list_access_keys(UserName=USER)["AccessKeyMetadata"]
        return {key["AccessKeyId"]: key["Status"] for key in found}

    def key_fresh(self) -> str:
        """The user has only a new key; its value."""
        for key_id in self.keys():
            self.iam.delete_access_key(UserName=USER, AccessKeyId=key_id)
        key = self.iam.create_access_key(UserName=USER)["AccessKey"]
        return json.dumps({"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]})

    def parameter(self, name: str) -> str | None:
        """The value of a parameter, or None."""
        try:
            value: str = self.ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
        except self.ssm.exceptions.ParameterNotFound:
            return None
        return value

    def parameter_put(self, name: str, value: str | None) -> None:
        """Give a parameter this value, or none."""
        if value is not None:
            self.ssm.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)
        elif self.parameter(name) is not None:
            self.ssm.delete_parameter(Name=name)
