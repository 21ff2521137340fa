"""Agents and enrolment tokens in the admin."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest

from apps.accounts.policies import Permission
from apps.accounts.selectors import user_get
from apps.agents.models import ENROLMENT_TOKENS, Agent, EnrolmentToken
from apps.agents.selectors import REGION, fleet_counts, heartbeats_get
from apps.agents.services import (
    agent_configure,
    agent_drain,
    agent_key_rotate,
    agent_resume,
    agent_retire,
    enrolment_token_create,
    enrolment_token_revoke,
)
from apps.agents.services.enrolment_tokens import MAX_NAME, MAX_USES
from apps.agents.states import MAX_SLOTS, AgentStatus
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.nosql.admin.filters import FieldFilter
from controlplane.nosql.admin.forms import NamesField, RecordForm, revision, text
from controlplane.nosql.admin.options import NosqlModelAdmin, act, moment
from controlplane.nosql.admin.site import site
from controlplane.nosql.facade import Facade
from controlplane.nosql.listing import Listing, search_key


def _regions(asked: Mapping[str, Any]) -> list[str]:
    return [asked["region"]] if "region" in asked else sorted(fleet_counts())


class AgentFacade(Facade, record=Agent, hidden=("keys", "name_key")):
    """An agent as the admin sees it: without its keys."""

    listings = (Listing(Agent, Agent.by_name, _regions, filters={"status"}),)

    class Meta(Facade.Meta):
        verbose_name = "agent"

    def __str__(self) -> str:
        return f"{self.record.name} ({self.record.region})"


class RegionFilter(FieldFilter):
    """The regions in which there are agents now."""

    title = "region"
    parameter_name = "region"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002 — Django's own
        return [(region, region) for region in sorted(fleet_counts()) if REGION.fullmatch(region)]


class AgentForm(RecordForm):
    """An agent's configuration."""

    revision_field = "config_version"

    slots = forms.IntegerField(min_value=1, max_value=MAX_SLOTS, help_text="How many jobs it runs at a time.")
    labels = NamesField(help_text="A job runs only where all of its labels are.")
    deployment_targets = NamesField(help_text="The targets that it may deploy to.")
    config_version = revision()

    def write(self, actor: Actor) -> Agent:
        return agent_configure(agent_id=self.instance.pk, **self.cleaned_data, actor=actor)


class AgentAdmin(NosqlModelAdmin):
    permissions = {"view": Permission.AGENTS_READ, "change": Permission.AGENTS_MANAGE}  # noqa: RUF012
    history_kind = "agent"
    list_display = ("name", "region", "status", "slots", "label_list", "version", moment("created_at"))
    list_filter = (
        RegionFilter,
        FieldFilter.make("status", "status", [(status.value, status.value) for status in AgentStatus]),
    )
    search_fields = ("name",)
    search_help_text = "The beginning of a name, or a whole id."
    form = AgentForm
    details = (
        "agent_id",
        "name",
        "region",
        "status",
        "status_reason",
        "hostname",
        "os",
        "arch",
        "version",
        moment("created_at"),
        "token_id",
    )

    def search(self, queryset: Any, term: str) -> Any:
        found = queryset.filter(pk=term.lower())
        return found if len(term) == 26 and found.exists() else queryset.filter(name_key__startswith=search_key(term))

    @display(description="labels", empty_value="")
    def label_list(self, obj: Any) -> str:
        return ", ".join(obj.labels)

    @display(description="why", empty_value="")
    def status_reason(self, obj: Any) -> str | None:
        heartbeat = heartbeats_get([obj.pk]).get(obj.pk)
        return str(heartbeat.status_reason) if heartbeat and heartbeat.status_reason else None

    @act("Drain", permission=Permission.AGENTS_MANAGE, done="Gets no new work")
    def drain(self, actor: Actor, obj: Any) -> None:
        agent_drain(agent_id=obj.pk, actor=actor)

    @act("Resume", permission=Permission.AGENTS_MANAGE, done="Takes work again")
    def resume(self, actor: Actor, obj: Any) -> None:
        agent_resume(agent_id=obj.pk, actor=actor)

    @act(
        "Retire",
        permission=Permission.AGENTS_MANAGE,
        confirm="The control plane refuses them for good. Their jobs return to the queue. To come back, the machines "
        "must enrol again.",
        done="Retired",
    )
    def retire(self, actor: Actor, obj: Any) -> None:
        agent_retire(agent_id=obj.pk, actor=actor)

    @act(
        "Rotate key",
        permission=Permission.AGENTS_MANAGE,
        confirm="Each agent fetches its new key with its configuration. Its present key stays valid for 24 hours.",
        done="Has a new key to fetch",
    )
    def rotate_key(self, actor: Actor, obj: Any) -> None:
        agent_key_rotate(agent_id=obj.pk, actor=actor)


class EnrolmentTokenFacade(Facade, record=EnrolmentToken):
    """An enrolment token as the admin sees it."""

    listings = (Listing(EnrolmentToken, EnrolmentToken.by_age, lambda _asked: [ENROLMENT_TOKENS], descending=True),)

    class Meta(Facade.Meta):
        verbose_name = "enrolment token"

    def __str__(self) -> str:
        return str(self.record.name or f"token of {self.record.created_at[:16].replace('T', ' ')}")


class EnrolmentTokenAddForm(RecordForm):
    """A new token."""

    name = text(max_length=MAX_NAME, help_text="For lists, such as the machines that it is for.")
    uses = forms.IntegerField(min_value=1, max_value=MAX_USES, initial=1, help_text="How many machines it enrols.")
    hours = forms.IntegerField(label="Valid for (hours)", min_value=1, max_value=24 * 365, initial=24)
    labels = NamesField(
        label="Allowed labels",
        help_text="If empty, any. An agent that asks for no labels gets all of them (container only if its machine can "
        "run containers).",
    )
    regions = NamesField(label="Allowed regions", help_text="If empty, any.")
    slots = forms.IntegerField(
        label="Most slots",
        required=False,
        min_value=1,
        max_value=MAX_SLOTS,
        help_text=f"How many jobs an agent may run at a time. If empty, up to {MAX_SLOTS}.",
    )
    deployment_targets = NamesField(help_text="The targets that its agents may deploy to.")

    def write(self, actor: Actor) -> EnrolmentToken:
        members = {name: value for name, value in self.cleaned_data.items() if name != "hours"}
        expires_at = clock.now() + timedelta(hours=self.cleaned_data["hours"])
        token, self.secret = enrolment_token_create(**members, expires_at=expires_at, actor=actor)
        return token


class EnrolmentTokenAdmin(NosqlModelAdmin):
    permissions = dict.fromkeys(("view", "add", "delete"), Permission.AGENTS_ENROL)
    list_display = ("__str__", "uses_shown", "label_list", "region_list", moment("expires_at"), "maker")
    search_fields = ("created_at",)
    search_help_text = "The time at which it was made, or the beginning of that: 2026-11-21."
    add_form = EnrolmentTokenAddForm
    details = (
        "token_id",
        "name",
        "uses_shown",
        "label_list",
        "region_list",
        "most_slots",
        "target_list",
        moment("created_at"),
        moment("expires_at"),
        "maker",
    )
    delete_note = "It enrols no more machines. Those that it has enrolled stay."

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(created_at__startswith=term.replace(" ", "T"))

    @display(description="uses left")
    def uses_shown(self, obj: Any) -> str:
        return f"{obj.uses_left} of {obj.uses}" if obj.uses else str(obj.uses_left)

    @display(description="allowed labels", empty_value="any")
    def label_list(self, obj: Any) -> str | None:
        return ", ".join(obj.labels) or None

    @display(description="allowed regions", empty_value="any")
    def region_list(self, obj: Any) -> str | None:
        return ", ".join(obj.regions) or None

    @display(description="most slots", empty_value="any")
    def most_slots(self, obj: Any) -> int | None:
        return obj.slots  # type: ignore[no-any-return]

    @display(description="deployment targets", empty_value="none")
    def target_list(self, obj: Any) -> str | None:
        return ", ".join(obj.deployment_targets) or None

    @display(description="made by")
    def maker(self, obj: Any) -> str:
        maker = user_get(obj.created_by)
        return maker.email if maker else obj.created_by

    @act(
        "Revoke",
        permission=Permission.AGENTS_ENROL,
        confirm="They enrol no more machines. Those that they have enrolled stay.",
        done="Revoked",
    )
    def revoke(self, actor: Actor, obj: Any) -> None:
        enrolment_token_revoke(token=obj.record, actor=actor)

    def record_delete(self, actor: Actor, obj: Any) -> None:
        enrolment_token_revoke(token=obj.record, actor=actor)

    def history_target(self, obj: Any) -> str:
        return f"enrolment_token:{obj.record.token_id}"


site.register(AgentFacade, AgentAdmin)
site.register(EnrolmentTokenFacade, EnrolmentTokenAdmin)
