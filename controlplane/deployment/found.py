"""What a stage has of its function: the parts that Zappa makes, of which a failed deployment leaves some."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from controlplane.infrastructure.clients import Account, aws_errors
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.names import LIVE_ALIAS, function_name


@dataclass(frozen=True)
class Found:
    """Which parts exist. `address` is AWS's address of the API, None without an API."""

    stage: str
    region: str
    function: bool
    alias: bool
    address: str | None

    @property
    def complete(self) -> bool:
        """Whether the stage was deployed: all parts exist."""
        return self.function and self.alias and self.address is not None

    @property
    def made(self) -> str:
        """The parts that exist, for a sentence."""
        name = function_name(self.stage)
        parts = [
            f"the function {name}" if self.function else "",
            f"its alias {LIVE_ALIAS}" if self.alias else "",
            f"the API {self.address}" if self.address else "",
        ]
        return ", ".join(part for part in parts if part) or "nothing"

    def require(self) -> None:
        """Raise InfrastructureError unless the stage is deployed completely. The message names the command to type."""
        name = function_name(self.stage)
        if self.complete:
            return
        if not self.function and self.address is None:
            raise InfrastructureError(f"{name} is not deployed in {self.region}. Type: zappa deploy {self.stage}")
        raise InfrastructureError(
            f"A deployment of {self.stage} in {self.region} stopped half way. There is {self.made}, and no more. "
            f"Type: zappa undeploy {self.stage}, then: zappa deploy {self.stage}. Data is kept."
        )


def stage_found(stage: str, account: Account) -> Found:
    """Ask AWS for the parts of a stage. Raises InfrastructureError when it refuses."""
    client, name = account.client("lambda"), function_name(stage)
    with aws_errors():
        apis = account.client("apigatewayv2").get_apis()["Items"]
    ids = [f"{api['ApiEndpoint']}/{stage}" for api in apis if api["Name"] == name]
    return Found(
        stage=stage,
        region=account.region,
        function=_exists(client.get_function_configuration, FunctionName=name),
        alias=_exists(client.get_alias, FunctionName=name, Name=LIVE_ALIAS),
        address=ids[0] if ids else None,
    )


def _exists(call: Callable[..., Any], **arguments: str) -> bool:
    with aws_errors():
        try:
            call(**arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return False
        return True
