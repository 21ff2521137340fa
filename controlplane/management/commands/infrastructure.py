"""``manage.py infrastructure show|diff|deploy|destroy --stage STAGE``: what a stage has on AWS beside its function."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.lib import clock

if TYPE_CHECKING:
    from controlplane.infrastructure.stack import Plan, Stack

_DIFFERENT = 2
_GUARD = "--i-know-that-this-deletes"


class Command(BaseCommand):
    help = (
        "Tables, role, key, log bucket, alarms and dashboard of a stage, as one CloudFormation stack. Exit codes: "
        "0 done, or nothing to do; 1 refused, declined or failed; 2 from diff when something would change."
    )
    # It acts on another stage than the one of these settings.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="show|diff|deploy|destroy")
        show = actions.add_parser("show", help="Print the template. Needs no credentials.")
        show.add_argument("--format", choices=["yaml", "json"], default="yaml", help="(default: yaml)")
        diff = actions.add_parser("diff", help="Say what deploy would change, and change nothing.")
        deploy = actions.add_parser("deploy", help="Say what would change, ask, do it and wait for it.")
        destroy = actions.add_parser("destroy", help="Delete the stack. Tables, logs and the key stay.")
        for action in (show, diff, deploy, destroy):
            action.add_argument("--stage", choices=["staging", "production"], required=True)
        for action in (diff, deploy):
            action.add_argument("--email", help="address that gets alarms (default: unchanged; at first none)")
            action.add_argument("--api-id", help="the HTTP API to watch (default: the one with the function's name)")
        for action in (deploy, destroy):
            action.add_argument("--yes", action="store_true", help="do not ask")
        destroy.add_argument(_GUARD, metavar="STACK", dest="guard", help="production only: the stack's full name")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            from controlplane.infrastructure.errors import InfrastructureError
        except ImportError as error:
            raise CommandError(f"{error}. This needs what requirements/deploy.txt names.") from error
        if settings.DYNAMODB_BILLING not in ("", "on-demand", "provisioned"):
            raise CommandError(f"DYNAMODB_BILLING must be on-demand or provisioned, not {settings.DYNAMODB_BILLING!r}.")
        try:
            getattr(self, f"_{options['action']}")(options)
        except InfrastructureError as error:
            raise CommandError(str(error)) from error

    # --- the actions ----------------------------------------------------------------------------------------------

    def _show(self, options: dict[str, Any]) -> None:
        from controlplane.infrastructure.stages import STAGES
        from controlplane.infrastructure.template import stage_template

        stage = STAGES[options["stage"]]
        template = stage_template(replace(stage, billing=settings.DYNAMODB_BILLING or stage.billing))
        self.stdout.write(template.to_yaml() if options["format"] == "yaml" else template.to_json())

    def _diff(self, options: dict[str, Any]) -> None:
        stack = self._stack(options)
        plan = stack.plan()
        if plan is None:
            stack.discard()
            self.stdout.write("No changes.")
            return
        stack.discard(plan)
        self._plan_write(plan)
        sys.exit(_DIFFERENT)

    def _deploy(self, options: dict[str, Any]) -> None:
        stack = self._stack(options)
        stack.remains_delete(self._say)
        plan = stack.plan()
        if plan is None:
            self.stdout.write("No changes.")
        while plan is not None:
            self._plan_write(plan)
            if not (options["yes"] or self._asked("Do this?")):
                stack.discard(plan)
                raise CommandError("Declined; nothing of this was changed.")
            stack.apply(plan, self._say)
            self.stdout.write("Done.")
            plan = stack.plan() if plan.more else None
        for name, value in sorted(stack.outputs().items()):
            self.stdout.write(f"{name}: {value}")

    def _destroy(self, options: dict[str, Any]) -> None:
        stack = self._stack(options)
        if stack.status() is None:
            self.stdout.write("There is no such stack.")
            return
        if stack.stage.guarded and options["guard"] != stack.name:
            raise CommandError(f"This is {stack.stage.name}. If it is to go, say {_GUARD} {stack.name}")
        if stack.function_is_there():
            raise CommandError(f"The function runs with this stack's role. First: zappa undeploy {stack.stage.name}")
        kept = stack.kept()
        self.stdout.write("Alarms, dashboard, role and policy go. These stay, and the next `deploy` takes them over:")
        for resource in kept:
            self.stdout.write(f"  {resource}")
        if not (options["yes"] or self._asked("Delete the stack?")):
            raise CommandError("Declined; nothing was changed.")
        stack.delete(self._say)
        self.stdout.write(
            "The stack is gone. What stays costs what its storage costs; docs/operations.md, Infrastructure, says how "
            "to delete it for good."
        )

    # --- talking to a person --------------------------------------------------------------------------------------

    def _stack(self, options: dict[str, Any]) -> "Stack":
        from controlplane.infrastructure.clients import Account
        from controlplane.infrastructure.stack import Stack
        from controlplane.infrastructure.stages import STAGES

        account = Account(settings.AWS_REGION)
        stack = Stack(
            STAGES[options["stage"]],
            account,
            email=options.get("email"),
            api_id=options.get("api_id"),
            billing=settings.DYNAMODB_BILLING or None,
            budget=settings.BUDGET_DOLLARS,
        )
        self.stdout.write(f"{stack.name} in {account.region}, account {account.number}, as {account.principal}")
        return stack

    def _plan_write(self, plan: "Plan") -> None:
        for change in plan.changes:
            self.stdout.write(f"  {change}")
        self.stdout.write(f"{len(plan.changes)} changes.")
        if plan.more:
            self.stdout.write(plan.more)

    def _say(self, text: str) -> None:
        self.stdout.write(f"  {clock.now():%H:%M:%S} {text}")
        self.stdout.flush()

    def _asked(self, question: str) -> bool:
        self.stdout.write(f"{question} Type yes: ", ending="")
        self.stdout.flush()
        try:
            return input().strip().lower() == "yes"
        except EOFError:
            self.stdout.write("\nThere is no terminal to answer at. --yes goes on without a question.")
            return False
