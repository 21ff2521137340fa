"""The stack of a stage on AWS: what would change, changing it, deleting it."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from botocore.exceptions import ClientError

from controlplane.infrastructure.adoption import adoption_body, standing_resources
from controlplane.infrastructure.alarms import API_PARAMETER, EMAIL_PARAMETER
from controlplane.infrastructure.clients import Account, failures_told
from controlplane.infrastructure.deployer import boundary_apply
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.names import PROJECT, function_boundary_name, function_name, stack_name
from controlplane.infrastructure.stages import Stage
from controlplane.infrastructure.steps import next_step
from controlplane.infrastructure.template import stage_template, template_body
from controlplane.infrastructure.uploads import template_argument
from controlplane.lib import clock

Tell = Callable[[str], None]

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
# What CloudFormation says in place of an empty change set, by the age of its parts.
_NO_CHANGES = ("didn't contain changes", "no updates are to be performed", "no changes")
_GOOD = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "DELETE_COMPLETE"})
# Into these an update may go; what failed was undone.
_UPDATABLE = (_GOOD | {"UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"}) - {"DELETE_COMPLETE"}
# Only a name: nothing has been made.
_ANNOUNCED = "REVIEW_IN_PROGRESS"
# Its first making failed. AWS lets one do nothing with it but delete it.
_STILLBORN = "ROLLBACK_COMPLETE"


@dataclass(frozen=True)
class Change:
    """What would happen to one resource. `action` is add, change, replace, remove or import.

    `what` are the properties that change; `kept`: a removed one leaves the stack, but is not deleted.
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
        kept = "; it stays, outside of the stack" if self.kept else ""
        return f"{self.action:<8} {self.kind.removeprefix('AWS::')} {self.logical_id}{name}{what}{kept}"


@dataclass(frozen=True)
class Plan:
    """What the next step of a deployment would do. `more` says why another one follows, None if it is the last."""

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
    """The stack of one stage in one account. All that AWS refuses is raised as InfrastructureError."""

    def __init__(self, stage: Stage, account: Account, *, email: str | None = None, api_id: str | None = None) -> None:
        """`email` and `api_id` None: as they are, or else as they can be found."""
        self.stage = stage
        self.account = account
        self.name = stack_name(stage.name)
        self._email, self._api_id = email, api_id
        self._cloudformation = account.client("cloudformation")

    # --- what there is --------------------------------------------------------------------------------------------

    def status(self) -> str | None:
        """CloudFormation's word for the stack's state, or None when there is none."""
        found = self._describe(self.name)
        return found["StackStatus"] if found else None

    def outputs(self) -> dict[str, str]:
        """What the stack gives to others, such as the role's ARN."""
        found = self._describe(self.name) or {}
        return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", ())}

    def kept(self) -> list[Kept]:
        """What would be there still after `delete`."""
        with failures_told():
            template = self._standing_template() or {"Resources": {}}
            pages = self._cloudformation.get_paginator("list_stack_resources").paginate(StackName=self.name)
            return [
                Kept(found["ResourceType"], found["PhysicalResourceId"])
                for page in pages
                for found in page["StackResourceSummaries"]
                if template["Resources"].get(found["LogicalResourceId"], {}).get("DeletionPolicy") == "Retain"
            ]

    def function_is_there(self) -> bool:
        """Whether the function, which runs with this stack's role, is deployed."""
        with failures_told():
            try:
                self.account.client("lambda").get_function(FunctionName=function_name(self.stage.name))
            except ClientError as error:
                if error.response["Error"]["Code"] == "ResourceNotFoundException":
                    return False
                raise
            return True

    def _describe(self, name: str) -> dict[str, Any] | None:
        with failures_told():
            try:
                found: dict[str, Any] = self._cloudformation.describe_stacks(StackName=name)["Stacks"][0]
            except ClientError as error:
                if "does not exist" in error.response["Error"]["Message"]:
                    return None
                raise
            return found

    def _standing_template(self) -> dict[str, Any] | None:
        if self.status() in (None, _ANNOUNCED):
            return None
        body = self._cloudformation.get_template(StackName=self.name, TemplateStage="Original")["TemplateBody"]
        # boto3 parses what is JSON, except where it comes with white space in front.
        parsed: dict[str, Any] = json.loads(body) if isinstance(body, str) else json.loads(json.dumps(body))
        return parsed

    def _wanted_template(self) -> dict[str, Any]:
        """What the code wants, with the boundary of the function's role where the account has one."""
        body: dict[str, Any] = json.loads(template_body(stage_template(self.stage, account=self.account.number)))
        partition = self.account.principal.split(":")[1]
        boundary = f"arn:{partition}:iam::{self.account.number}:policy/{function_boundary_name(self.stage.name)}"
        iam = self.account.client("iam")
        try:
            iam.get_policy(PolicyArn=boundary)
        except iam.exceptions.NoSuchEntityException:
            return body
        boundary_apply(body, boundary)
        return body

    # --- changing it ----------------------------------------------------------------------------------------------

    def plan(self) -> Plan | None:
        """Ask AWS what the next step would change; None when nothing would. `discard` or `apply` what it returns."""
        with failures_told():
            self._require_ready()
            standing = self._standing_template()
            wanted = self._wanted_template()
            imports = standing_resources(self.account, wanted) if standing is None else []
            more = None
            if imports:
                body = adoption_body(wanted, imports)
                more = "All else follows when these, which are there already, are part of the stack."
            else:
                body = next_step(standing, wanted) if standing is not None else wanted
                if body != wanted:
                    more = "More follows: DynamoDB makes or deletes one index of a table at a time."
            change_set = self._change_set_make(body, imports=imports, exists=standing is not None)
            return None if change_set is None else Plan(list(self._changes(change_set)), change_set, more)

    def discard(self, plan: Plan | None = None) -> None:
        """Leave everything as it was; also forget a stack of which there is nothing but the plan."""
        with failures_told():
            if plan is not None:
                self._cloudformation.delete_change_set(ChangeSetName=plan.change_set_id, StackName=self.name)
            if self.status() == _ANNOUNCED:
                self._cloudformation.delete_stack(StackName=self.name)

    def apply(self, plan: Plan, tell: Tell) -> None:
        """Do what the plan says and wait for it, telling of each resource. Raises InfrastructureError when it fails."""
        with failures_told():
            stack = self._describe(self.name)
            assert stack is not None  # noqa: S101 — the plan's change set belongs to it
            last = self._last_event(stack["StackId"])
            self._cloudformation.execute_change_set(ChangeSetName=plan.change_set_id, StackName=self.name)
            self._wait(stack["StackId"], last, tell)
            if self.stage.guarded:
                self._cloudformation.update_termination_protection(
                    StackName=self.name, EnableTerminationProtection=True
                )

    def remains_delete(self, tell: Tell) -> None:
        """Clear a stack away whose first making failed; what it made of tables stays, and is taken over again."""
        if self.status() == _STILLBORN:
            tell("The stack's first making failed. What is left of it is cleared away first.")
            self.delete(tell)

    def _require_ready(self) -> None:
        status = self.status()
        if status is None or status == _ANNOUNCED or status in _UPDATABLE:
            return
        if status == _STILLBORN:
            raise InfrastructureError(f"The first making of {self.name} failed. `deploy` begins anew.")
        if status.endswith("_IN_PROGRESS"):
            raise InfrastructureError(
                f"{self.name} is being changed by somebody else ({status}). Wait for the end of it."
            )
        raise InfrastructureError(
            f"{self.name} is in the state {status}. CloudFormation's console shows what it needs."
        )

    def _change_set_make(self, body: dict[str, Any], *, imports: list[dict[str, Any]], exists: bool) -> str | None:
        """Make a change set and wait for it; None when it would change nothing. Returns its id."""
        made = self._cloudformation.create_change_set(
            StackName=self.name,
            ChangeSetName=f"deploy-{clock.now():%Y%m%d-%H%M%S-%f}",
            ChangeSetType="IMPORT" if imports else "UPDATE" if exists else "CREATE",
            Parameters=self._parameters(body),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            # What is imported gets its tags with all else.
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
        """CloudFormation hands them on to each resource that can have some."""
        return [{"Key": "project", "Value": PROJECT}, {"Key": "stage", "Value": self.stage.name}]

    def _parameters(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """What is said on the command line, else what stands, else what can be found in the account."""
        standing = self._describe(self.name)
        is_new = standing is None or standing["StackStatus"] == _ANNOUNCED
        known = set() if is_new else {entry["ParameterKey"] for entry in (standing or {}).get("Parameters", ())}
        values = {
            EMAIL_PARAMETER: self._email,
            API_PARAMETER: self._api_id if self._api_id is not None else self._api_find(),
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

    def delete(self, tell: Tell) -> None:
        """Delete the stack and wait for it; tables, logs and the key stay. Raises InfrastructureError when it fails."""
        with failures_told():
            stack = self._describe(self.name)
            if stack is None:
                return
            last = self._last_event(stack["StackId"])
            if stack.get("EnableTerminationProtection"):
                self._cloudformation.update_termination_protection(
                    StackName=self.name, EnableTerminationProtection=False
                )
            self._cloudformation.delete_stack(StackName=self.name)
            self._wait(stack["StackId"], last, tell)

    # --- waiting --------------------------------------------------------------------------------------------------

    def _wait(self, stack_id: str, last: str | None, tell: Tell) -> None:
        """Tell of each event until the stack rests. Raises InfrastructureError with what went wrong first."""
        problems: list[str] = []
        for _ in _pauses():
            # In this order, so that no event of the end is missed.
            stack = self._describe(stack_id)
            for event in self._events(stack_id, last):
                last = event["EventId"]
                reason = event.get("ResourceStatusReason", "")
                kind = event["ResourceType"].removeprefix("AWS::")
                tell(
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
        """What happened after the event with this id, in its order; AWS tells it from the end."""
        pages = self._cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_id)
        events = (event for page in pages for event in page["StackEvents"])
        return list(takewhile(lambda event: event["EventId"] != after, events))[::-1]

    def _invalid(self, stack_id: str) -> str:
        """What CloudFormation found wrong with the last template before it began; it tells that apart from the rest."""
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
    """Go on for ever, at once the first time, then ever slower."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE_SECONDS, pause * 1.5)
