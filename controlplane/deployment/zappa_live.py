"""Keeps Zappa from moving requests and schedules when it uploads code.

Zappa uploads to `$LATEST`, and its API uses the alias that ``apigateway_lambda_qualifier`` names. Zappa has no other
support for aliases: it creates none, and its rules invoke `$LATEST` even before the new code has proved to run. So this
module wraps Zappa's own methods, for each of its commands and each caller. Only a release decides which version the
alias names.
"""

from typing import Any

from controlplane.deployment.revision import revision_describe
from controlplane.deployment.steps import product_version


def alias_use(zappa: Any) -> None:
    """Make this run of Zappa's command line (`zappa`) create the alias with the function, and then use the alias."""
    alias: str = zappa.apigateway_lambda_qualifier
    core = zappa.zappa
    _versions_publish_once(core, alias)
    _rules_point(core, alias)
    _commands_invoke(core, alias)


def _versions_publish_once(core: Any, alias: str) -> None:
    """Publish a version with a new function, and name it with the alias. Publish none with an update.

    Zappa publishes new code before it sets the new configuration, so such a version would have only half of the update.
    """
    create, update = core.create_lambda_function, core.update_lambda_function

    def create_with_alias(**arguments: Any) -> str:
        arn: str = create(**arguments, publish=False)
        description = revision_describe(product_version())
        version = core.lambda_client.publish_version(FunctionName=arn, Description=description)["Version"]
        core.wait_until_lambda_function_version_is_active(arn, version)
        core.lambda_client.create_alias(FunctionName=arn, Name=alias, FunctionVersion=version)
        return arn

    def update_without_version(**arguments: Any) -> str:
        arn: str = update(**arguments, publish=False)
        return arn

    core.create_lambda_function, core.update_lambda_function = create_with_alias, update_without_version


def _rules_point(core: Any, alias: str) -> None:
    """Make rules invoke the alias, and find, allow and remove them by it."""
    schedule, names = core.schedule_events, core.get_event_rule_names_for_lambda
    allow, clear = core.create_event_permission, core._clear_policy

    def schedule_alias(lambda_arn: str, **arguments: Any) -> None:
        schedule(lambda_arn=f"{lambda_arn}:{alias}", **arguments)

    def names_of_alias(lambda_arn: str) -> list[str]:
        found: list[str] = names(lambda_arn=lambda_arn.removesuffix(f":{alias}") + f":{alias}")
        return found

    def allow_alias(lambda_name: str, principal: str, source_arn: str) -> Any:
        return allow(f"{lambda_name}:{alias}", principal, source_arn)

    def clear_alias(lambda_name: str) -> None:
        clear(f"{lambda_name}:{alias}")

    core.schedule_events, core.get_event_rule_names_for_lambda = schedule_alias, names_of_alias
    core.create_event_permission, core._clear_policy = allow_alias, clear_alias


def _commands_invoke(core: Any, alias: str) -> None:
    """`zappa manage` and `zappa invoke` run the live version, unless their options name another one."""
    invoke = core.invoke_lambda_function

    def invoke_alias(*arguments: Any, qualifier: str | None = None, **named: Any) -> Any:
        return invoke(*arguments, qualifier=qualifier or alias, **named)

    core.invoke_lambda_function = invoke_alias
