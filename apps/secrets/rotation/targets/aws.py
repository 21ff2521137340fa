"""AWS Secrets Manager and Parameter Store."""

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

from django.conf import settings

from apps.secrets.rotation.targets.copies import ReadableCopy
from controlplane.lib.aws_accounts import AwsRefused, account_client, aws_call
from controlplane.lib.rotation import Option, Step, StepRefused

# A role for rotations begins with this: the function may assume no other one.
ROLE_PREFIX = "hybrid-ci-cd-rotation-"
REGION = Option("must be a region of AWS, such as eu-central-1", pattern="[a-z]{2,3}(-[a-z]+){1,3}-[0-9]", default="")
ROLE = Option(
    f"must be the ARN of a role whose name begins with {ROLE_PREFIX}",
    pattern=rf"arn:aws[a-z-]*:iam::[0-9]{{12}}:role/{ROLE_PREFIX}[A-Za-z0-9+=,.@_-]{{1,40}}",
    default="",
)


def client_of(service: str, step: Step) -> Any:
    """The client of a service in the account and region of the configuration. Raises StepRefused, Unavailable."""
    config = step.config
    region = config["region"] or settings.AWS_REGION
    session_name = step.rotation_id.rpartition(".")[2]
    try:
        return account_client(service, region=region, role_arn=config["role_arn"], session_name=session_name)
    except AwsRefused as error:
        raise StepRefused(f"{error} The role must trust the control plane's role.") from None


class SecretsManagerSecret(ReadableCopy):
    """The value of a secret of AWS Secrets Manager, which must exist."""

    title = "AWS Secrets Manager"
    options: ClassVar[Mapping[str, Option]] = {
        "secret": Option("must be the name or ARN of the secret", pattern=r"[A-Za-z0-9/_+=.@:-]{1,512}"),
        "region": REGION,
        "role_arn": ROLE,
    }

    def place(self, config: Mapping[str, Any]) -> str:
        return f"{config['secret']} in Secrets Manager"

    def read(self, step: Step) -> str | None:
        client = client_of("secretsmanager", step)
        try:
            value: str | None = aws_call(client.get_secret_value, SecretId=step.config["secret"]).get("SecretString")
        except AwsRefused as error:
            if error.code != "ResourceNotFoundException":
                raise StepRefused(str(error)) from None
            self._existence_require(client, step)
            return None
        return value

    def write(self, step: Step, value: str) -> None:
        # By the token, AWS knows a repeated call.
        token = hashlib.sha256(step.step_id.encode()).hexdigest()[:32]
        client = client_of("secretsmanager", step)
        try:
            aws_call(
                client.put_secret_value,
                SecretId=step.config["secret"],
                SecretString=value,
                ClientRequestToken=token,
            )
        except AwsRefused as error:
            raise StepRefused(str(error)) from None

    def _existence_require(self, client: Any, step: Step) -> None:
        """A secret without a value exists, too."""
        try:
            aws_call(client.describe_secret, SecretId=step.config["secret"])
        except AwsRefused as error:
            raise StepRefused(f"{error} Create the secret {step.config['secret']} first.") from None


class Parameter(ReadableCopy):
    """A SecureString of AWS Systems Manager's Parameter Store."""

    title = "AWS Parameter Store"
    options: ClassVar[Mapping[str, Option]] = {
        "name": Option("must be the name of the parameter", pattern=r"[A-Za-z0-9/_.-]{1,1011}"),
        "kms_key_id": Option(
            "must be the id, ARN or alias of the key that encrypts the parameter",
            pattern=r"[A-Za-z0-9:/_-]{1,256}",
            default="",
        ),
        "region": REGION,
        "role_arn": ROLE,
    }

    def place(self, config: Mapping[str, Any]) -> str:
        return f"{config['name']} in Parameter Store"

    def read(self, step: Step) -> str | None:
        client = client_of("ssm", step)
        try:
            answer = aws_call(client.get_parameter, Name=step.config["name"], WithDecryption=True)
        except AwsRefused as error:
            if error.code == "ParameterNotFound":
                return None
            raise StepRefused(str(error)) from None
        value: str = answer["Parameter"]["Value"]
        return value

    def write(self, step: Step, value: str) -> None:
        key = {"KeyId": step.config["kms_key_id"]} if step.config["kms_key_id"] else {}
        client = client_of("ssm", step)
        try:
            aws_call(
                client.put_parameter,
                Name=step.config["name"],
                Value=value,
                Type="SecureString",
                Overwrite=True,
                **key,
            )
        except AwsRefused as error:
            raise StepRefused(str(error)) from None
