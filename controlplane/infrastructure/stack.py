"""The stack of a stage on AWS: planning a change, applying it, deleting the stack."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from botocore.exceptions import ClientError

from controlplane.infrastructure.adoption import adoption_body, existing_resources
from controlplane.infrastructure.alarms import API_PARAMETER, EMAIL_PARAMETER
from controlplane.infrastructure.budget import BUDGET_PARAMETER
from controlplane.infrastructure.clients import Account, aws_errors
from controlplane.infrastructure.concurrency import concurrency_possible
from controlplane.infrastructure.deployer import boundary_apply
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.names import PROJECT, Place, function_boundary_name, function_name, stack_name
from controlplane.infrastructure.stages import Stage
from controlplane.infrastructure.steps import next_step
from controlplane.infrastructure.template import BILLING_PARAMETER, stage_template, template_body
from controlplane.infrastructure.uploads import template_argument
from controlplane.lib import clock

Report = Callable[[str], None]

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
# CloudFormation's answers for an empty change set; they differ by the age of its parts.
_NO_CHANGES = ("didn't contain changes", "no updates are to be performed", "no changes")
_GOOD = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "DELETE_COMPLETE"})
# A stack in these states can be updated; a failed update was rolled back.
_UPDATABLE = (_GOOD | {"UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"}) - {"DELETE_COMPLETE"}
# The stack has only a name and no resources yet.
_WITHOUT_RESOURCES = "REVIEW_IN_PROGRESS"
# Creating the stack failed. CloudFormation only allows to delete it.
_CREATE_FAILED = "ROLLBACK_COMPLETE"


@dataclass(frozen=True)
class Change:
    """The change of one resource. `action` is add, change, replace, remove or import.

    `what` are the changed properties. If `kept`, a removed resource leaves the stack, but is not deleted.
    """

    action: str
    kind: str
    logical_id: str
    physical_id: str | None
    what: tuple[str, ...]
    kept: bool

    def __str__(self) -> str:
        name = f" ({self.physical_id})" if self.physical_id else ""
        what = f": {', '.join(self.what)}" if self.what else ""
        kept = "; the resource is kept outside the stack" if self.kept else ""
        return f"{self.action:<8} {self.kind.removeprefix('AWS::')} {self.logical_id}{name}{what}{kept}"


@dataclass(frozen=True)
class Plan:
    """The next step of a deployment. `more` says why another step follows; None if this is the last one."""

    changes: list[Change]
    change_set_id: str
    more: str | None


@dataclass(frozen=True)
class Kept:
    """A resource that outlives the stack."""

    kind: str
    physical_id: str

    def __str__(self) -> str:
        return f"{self.kind.removeprefix('AWS::')} {self.physical_id}"


class Stack:
    """The stack of one stage in one account. Raises InfrastructureError for everything that AWS refuses."""

    def __init__(
        self,
        stage: Stage,
        account: Account,
        *,
        email: str | None = None,
        api_id: str | None = None,
        billing: str | None = None,
        budget: int | None = None,
    ) -> None:
        """Each value that is None stays what it is in the stack. At first, `api_id` is looked up in the account.

        `billing` is that of the tables, `budget` is in US dollars a month.
        """
        self.stage = stage
        self.account = account
        self.name = stack_name(stage.name)
        self._email, self._api_id, self._billing, self._budget = email, api_id, billing, budget
        self._cloudformation = account.client("cloudformation")

    # --- what there is --------------------------------------------------------------------------------------------

    def status(self) -> str | None:
        """CloudFormation's status of the stack, or None when it does not exist."""
        found = self._describe(self.name)
        return found["StackStatus"] if found else None

    def outputs(self) -> dict[str, str]:
        """The stack's outputs, such as the role's ARN."""
        found = self._describe(self.name) or {}
        return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", ())}

    def kept(self) -> list[Kept]:
        """The resources that would outlive `delete`."""
        with aws_errors():
            template = self._current_template() or {"Resources": {}}
            pages = self._cloudformation.get_paginator("list_stack_resources").paginate(StackName=self.name)
            return [
                Kept(found["ResourceType"], found["PhysicalResourceId"])
                for page in pages
                for found in page["StackResourceSummaries"]
                if template["Resources"].get(found["LogicalResourceId"], {}).get("DeletionPolicy") == "Retain"
            ]

    def function_is_there(self) -> bool:
        """Whether the function, which runs with this stack's role, is deployed."""
        with aws_errors():
            try:
                self.account.client("lambda").get_function(FunctionName=function_name(self.stage.name))
            except ClientError as error:
                if error.response["Error"]["Code"] == "ResourceNotFoundException":
                    return False
                raise
            return True

    def _describe(self, name: str) -> dict[str, Any] | None:
        with aws_errors():
            try:
                found: dict[str, Any] = self._cloudformation.describe_stacks(StackName=name)["Stacks"][0]
            except ClientError as error:
                if "does not exist" in error.response["Error"]["Message"]:
                    return None
                raise
            return found

    def _current_template(self) -> dict[str, Any] | None:
        if self.status() in (None, _WITHOUT_RESOURCES):
            return None
        body = self._cloudformation.get_template(StackName=self.name, TemplateStage="Original")["TemplateBody"]
        # boto3 parses JSON, except when it begins with white space.
        parsed: dict[str, Any] = json.loads(body) if isinstance(body, str) else json.loads(json.dumps(body))
        return parsed

    def _stage_there(self) -> Stage:
        """The stage with what the person who deploys, the stack and the account decide."""
        found = concurrency_possible(self.stage, self.account.client("lambda"))
        return replace(
            self.stage,
            billing=self._billing or self._parameters_known().get(BILLING_PARAMETER, self.stage.billing),
            reserved_concurrency=found.reserved,
            account_concurrency=found.account,
        )

    def _parameters_known(self) -> dict[str, str]:
        """The values of the parameters of the last deployment."""
        current = self._describe(self.name)
        if current is None or current["StackStatus"] == _WITHOUT_RESOURCES:
            return {}
        return {entry["ParameterKey"]: entry["ParameterValue"] for entry in current.get("Parameters", ())}

    def _wanted_template(self) -> dict[str, Any]:
        """The template from the code, with the boundary of the function's role if the account has one."""
        place = Place(self.account.region, self.account.number)
        body: dict[str, Any] = json.loads(template_body(stage_template(self._stage_there(), place=place)))
        partition = self.account.principal.split(":")[1]
        name = function_boundary_name(self.stage.name, self.account.region)
        boundary = f"arn:{partition}:iam::{self.account.number}:policy/{name}"
        iam = self.account.client("iam")
        try:
            iam.get_policy(PolicyArn=boundary)
        except iam.exceptions.NoSuchEntityException:
            return body
        boundary_apply(body, boundary)
        return body

    # --- changing it ----------------------------------------------------------------------------------------------

    def plan(self) -> Plan | None:
        """Ask AWS what the next step would change; None when nothing. Pass the result to `discard` or `apply`."""
        with aws_errors():
            self._require_ready()
            current = self._current_template()
            wanted = self._wanted_template()
            imports = existing_resources(self.account, wanted) if current is None else []
            more = None
            if imports:
                body = adoption_body(wanted, imports)
                more = "All other resources follow after this import of the resources that exist already."
            else:
                body = next_step(current, wanted) if current is not None else wanted
                if body != wanted:
                    more = "Another step follows: DynamoDB creates or deletes one index of a table at a time."
            change_set = self._change_set_make(body, imports=imports, exists=current is not None)
            return None if change_set is None else Plan(list(self._changes(change_set)), change_set, more)

    def discard(self, plan: Plan | None = None) -> None:
        """Delete the plan without applying it. Also delete a stack that consists of nothing but the plan."""
        with aws_errors():
            if plan is not None:
                self._cloudformation.delete_change_set(ChangeSetName=plan.change_set_id, StackName=self.name)
            if self.status() == _WITHOUT_RESOURCES:
                self._cloudformation.delete_stack(StackName=self.name)

    def apply(self, plan: Plan, report: Report) -> None:
        """Apply the plan, wait, and report each resource. Raises InfrastructureError when it fails."""
        with aws_errors():
            stack = self._describe(self.name)
            assert stack is not None  # noqa: S101 — the plan's change set belongs to it
            last = self._last_event(stack["StackId"])
            self._cloudformation.execute_change_set(ChangeSetName=plan.change_set_id, StackName=self.name)
            self._wait(stack["StackId"], last, report)
            if self.stage.guarded:
                self._cloudformation.update_termination_protection(
                    StackName=self.name, EnableTerminationProtection=True
                )

    def remains_delete(self, report: Report) -> None:
        """Delete a stack whose creation failed. Its tables are kept, and the next stack imports them."""
        if self.status() == _CREATE_FAILED:
            report("Creating the stack has failed before. What is left of it is deleted first.")
            self.delete(report)

    def _require_ready(self) -> None:
        status = self.status()
        if status is None or status == _WITHOUT_RESOURCES or status in _UPDATABLE:
            return
        if status == _CREATE_FAILED:
            raise InfrastructureError(f"Creating {self.name} failed. Run `deploy` to start again.")
        if status.endswith("_IN_PROGRESS"):
            raise InfrastructureError(
                f"Another process is changing {self.name} ({status}). Wait until it has ended, then try again."
            )
        raise InfrastructureError(
            f"{self.name} is in the state {status}. Look into CloudFormation's console for what it needs."
        )

    def _change_set_make(self, body: dict[str, Any], *, imports: list[dict[str, Any]], exists: bool) -> str | None:
        """Create a change set and wait for it. Returns its id; None when it would change nothing."""
        made = self._cloudformation.create_change_set(
            StackName=self.name,
            ChangeSetName=f"deploy-{clock.now():%Y%m%d-%H%M%S-%f}",
            ChangeSetType="IMPORT" if imports else "UPDATE" if exists else "CREATE",
            Parameters=self._parameters(body),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            # Imported resources get their tags with the next step.
            **({"ResourcesToImport": imports} if imports else {"Tags": self._tags()}),
            **template_argument(self.account, json.dumps(body, separators=(",", ":"), sort_keys=True)),
        )
        change_set: str = made["Id"]
        for _ in _pauses():
            found = self._cloudformation.describe_change_set(ChangeSetName=change_set, StackName=self.name)
            if found["Status"] == "CREATE_COMPLETE":
                return change_set
            if found["Status"] == "FAILED":
                self._cloudformation.delete_change_set(ChangeSetName=change_set, StackName=self.name)
                reason = found.get("StatusReason", "")
                if any(text in reason.lower() for text in _NO_CHANGES):
                    return None
                self.discard()
                raise InfrastructureError(f"CloudFormation refuses the template: {reason}")
        raise AssertionError("unreachable: waiting ends with an answer")

    def _tags(self) -> list[dict[str, str]]:
        """The tags. CloudFormation adds them to each resource that supports tags."""
        return [{"Key": "project", "Value": PROJECT}, {"Key": "stage", "Value": self.stage.name}]

    def _parameters(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Values from the command line, else those of the stack, else what can be found in the account."""
        known = self._parameters_known()
        values = {
            EMAIL_PARAMETER: self._email,
            API_PARAMETER: self._api_id if self._api_id is not None else self._api_find(),
            BILLING_PARAMETER: self._billing,
            BUDGET_PARAMETER: None if self._budget is None else str(self._budget),
        }
        parameters: list[dict[str, Any]] = []
        for name in body.get("Parameters", ()):
            value = values[name]
            if value is not None:
                parameters.append({"ParameterKey": name, "ParameterValue": value})
            elif name in known:
                parameters.append({"ParameterKey": name, "UsePreviousValue": True})
        return parameters

    def _api_find(self) -> str | None:
        """The id of the HTTP API that has the function's name, or None."""
        pages = self.account.client("apigatewayv2").get_paginator("get_apis").paginate()
        found = [
            api["ApiId"] for page in pages for api in page["Items"] if api["Name"] == function_name(self.stage.name)
        ]
        return found[0] if len(found) == 1 else None

    def _changes(self, change_set: str) -> Iterator[Change]:
        pages = self._cloudformation.get_paginator("describe_change_set").paginate(
            ChangeSetName=change_set, StackName=self.name
        )
        for page in pages:
            for entry in page["Changes"]:
                yield _change(entry["ResourceChange"])

    # --- deleting it ----------------------------------------------------------------------------------------------

    def delete(self, report: Report) -> None:
        """Delete the stack and wait. Tables, logs and the key are kept. Raises InfrastructureError when it fails."""
        with aws_errors():
            stack = self._describe(self.name)
            if stack is None:
                return
            last = self._last_event(stack["StackId"])
            if stack.get("EnableTerminationProtection"):
                self._cloudformation.update_termination_protection(
                    StackName=self.name, EnableTerminationProtection=False
                )
            self._cloudformation.delete_stack(StackName=self.name)
            self._wait(stack["StackId"], last, report)

    # --- waiting --------------------------------------------------------------------------------------------------

    def _wait(self, stack_id: str, last: str | None, report: Report) -> None:
        """Report each event until the operation has ended. Raises InfrastructureError with the first problem."""
        problems: list[str] = []
        for _ in _pauses():
            # The status is read before the events, so that no event of the end is missed.
            stack = self._describe(stack_id)
            for event in self._events(stack_id, last):
                last = event["EventId"]
                reason = event.get("ResourceStatusReason", "")
                kind = event["ResourceType"].removeprefix("AWS::")
                report(
                    f"{event['ResourceStatus']:<28} {kind} {event['LogicalResourceId']}"
                    + (f": {reason}" if reason else "")
                )
                if event["ResourceStatus"].endswith("_FAILED"):
                    problems.append(f"{event['LogicalResourceId']}: {reason}")
            if stack is None or not stack["StackStatus"].endswith("_IN_PROGRESS"):
                break
        status = stack["StackStatus"] if stack else "DELETE_COMPLETE"
        if status not in _GOOD:
            first = self._invalid(stack_id) or next(iter(problems), "") or (stack or {}).get("StackStatusReason", "")
            raise InfrastructureError(f"{self.name} ended as {status}. {first}")

    def _events(self, stack_id: str, after: str | None) -> list[dict[str, Any]]:
        """The events after the one with this id, oldest first. AWS returns the newest first."""
        pages = self._cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_id)
        events = (event for page in pages for event in page["StackEvents"])
        return list(takewhile(lambda event: event["EventId"] != after, events))[::-1]

    def _invalid(self, stack_id: str) -> str:
        """The problems of the last template that CloudFormation found before it began; it lists them separately."""
        events = self._cloudformation.describe_events(StackName=stack_id)["OperationEvents"]
        wrong = [event for event in events if event.get("ValidationStatus") == "FAILED"]
        return " ".join(f"{event['LogicalResourceId']}: {event['ValidationStatusReason']}" for event in wrong)

    def _last_event(self, stack_id: str) -> str | None:
        events = self._cloudformation.describe_stack_events(StackName=stack_id)["StackEvents"]
        return events[0]["EventId"] if events else None


def _change(found: dict[str, Any]) -> Change:
    action = {"Add": "add", "Modify": "change", "Remove": "remove", "Import": "import"}.get(
        found["Action"], found["Action"].lower()
    )
    if found.get("Replacement") == "True":
        action = "replace"
    targets = [detail["Target"] for detail in found.get("Details", ())]
    what = {target.get("Name") or target["Attribute"] for target in targets}
    return Change(
        action=action,
        kind=found["ResourceType"],
        logical_id=found["LogicalResourceId"],
        physical_id=found.get("PhysicalResourceId"),
        what=tuple(sorted(what)),
        kept=found.get("PolicyAction") in ("Retain", "ReplaceAndRetain"),
    )


def _pauses() -> Iterator[None]:
    """Yield for ever: at once the first time, then with growing pauses."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE_SECONDS, pause * 1.5)
