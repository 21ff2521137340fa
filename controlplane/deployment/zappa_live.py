"""Zappa leaves traffic and schedules alone when it uploads code: its callback "settings" in zappa_settings.json.

Zappa's uploads go to `$LATEST`; its API points at the alias that ``apigateway_lambda_qualifier`` names. The rest of it
knows no alias: it makes none, and has rules invoke `$LATEST`, even before it is certain that the new code runs. So its
own methods are wrapped here, for each of its commands, whoever types them. Which version the alias names is for
`manage.py release` and `manage.py deploy` alone to say.
"""

import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent.parent


def alias_use(zappa: Any) -> None:
    """Have this run of Zappa's command line (`zappa`) make the alias with the function, and then only speak to it."""
    alias: str = zappa.apigateway_lambda_qualifier
    core = zappa.zappa
    _versions_publish_once(core, alias)
    _rules_point(core, alias)
    _commands_invoke(core, alias)
    if zappa.command == "update":
        # New rules may want functions that the version which gets them does not have yet.
        zappa.schedule = _nothing


def _versions_publish_once(core: Any, alias: str) -> None:
    """A first version with the function, which the alias then names; no version by an update.

    Zappa publishes new code before it sets the new configuration, so such a version would be neither new nor old.
    """
    create, update = core.create_lambda_function, core.update_lambda_function

    def create_with_alias(**arguments: Any) -> str:
        arn: str = create(**arguments, publish=False)
        version = core.lambda_client.publish_version(FunctionName=arn, Description=_description())["Version"]
        core.wait_until_lambda_function_version_is_active(arn, version)
        core.lambda_client.create_alias(FunctionName=arn, Name=alias, FunctionVersion=version)
        return arn

    def update_without_version(**arguments: Any) -> str:
        arn: str = update(**arguments, publish=False)
        return arn

    core.create_lambda_function, core.update_lambda_function = create_with_alias, update_without_version


def _rules_point(core: Any, alias: str) -> None:
    """Rules invoke the alias, and are found, allowed and taken away by it."""
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
    """`zappa manage` and `zappa invoke` run what is live, unless they are told another version."""
    invoke = core.invoke_lambda_function

    def invoke_alias(*arguments: Any, qualifier: str | None = None, **named: Any) -> Any:
        return invoke(*arguments, qualifier=qualifier or alias, **named)

    core.invoke_lambda_function = invoke_alias


def _description() -> str:
    # Zappa's command does not look for modules where it is started.
    sys.path.append(str(_ROOT))
    from controlplane.deployment.revision import revision_describe
    from controlplane.settings import VERSION

    return revision_describe(VERSION)


def _nothing() -> None:
    pass
