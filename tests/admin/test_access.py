"""Who finds what in the admin, and that nothing that is put into its addresses breaks it."""

import re
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.accounts.selectors import user_by_email
from apps.accounts.services import api_token_create
from controlplane.lib.actor import SYSTEM
from tests.admin.conftest import Browser, SignIn, keys
from tests.clients import Client
from tests.commands import manage
from tests.dashboard.scene import Scene
from tests.examples import examples

# What each role finds on the first page.
MODELS = {
    "viewer": [
        "agents/agent",
        "jobs/deployment",
        "jobs/environment",
        "jobs/job",
        "jobs/run",
        "pipelines/pipeline",
        "pipelines/schedule",
        "sources/connection",
        "sources/delivery",
    ],
    "operator": [
        "agents/agent",
        "jobs/deployment",
        "jobs/environment",
        "jobs/job",
        "jobs/run",
        "notifications/delivery",
        "notifications/outboxitem",
        "notifications/rule",
        "notifications/target",
        "pipelines/pipeline",
        "pipelines/schedule",
        "secrets/rotation",
        "secrets/secret",
        "sources/connection",
        "sources/delivery",
    ],
    "auditor": [
        "agents/agent",
        "audit/auditrecord",
        "jobs/deployment",
        "jobs/environment",
        "jobs/job",
        "jobs/run",
        "pipelines/pipeline",
        "pipelines/schedule",
        "secrets/rotation",
        "secrets/secret",
        "sources/connection",
        "sources/delivery",
    ],
    "admin": [
        "accounts/apitoken",
        "accounts/invitation",
        "accounts/role",
        "accounts/session",
        "accounts/user",
        "agents/agent",
        "agents/enrolmenttoken",
        "audit/auditrecord",
        "jobs/deployment",
        "jobs/environment",
        "jobs/job",
        "jobs/run",
        "notifications/delivery",
        "notifications/outboxitem",
        "notifications/rule",
        "notifications/target",
        "pipelines/pipeline",
        "pipelines/schedule",
        "secrets/rotation",
        "secrets/secret",
        "sources/connection",
        "sources/delivery",
    ],
}
EVERYTHING = MODELS["admin"]
ADDED = {
    "admin": {
        "accounts/apitoken",
        "accounts/invitation",
        "accounts/user",
        "agents/enrolmenttoken",
        "jobs/environment",
        "notifications/rule",
        "notifications/target",
        "pipelines/pipeline",
        "pipelines/schedule",
        "secrets/secret",
    },
    "operator": {
        "notifications/rule",
        "notifications/target",
        "pipelines/pipeline",
        "pipelines/schedule",
        "secrets/secret",
    },
}


@pytest.mark.parametrize("role", MODELS)
def test_a_role_finds_what_it_may_look_at_and_nothing_else(sign_in: SignIn, role: str) -> None:
    browser = sign_in(role)
    page = browser.page("/admin/")
    assert sorted(set(re.findall(r'href="/admin/(\w+/\w+)/"', page))) == MODELS[role]
    for model in EVERYTHING:
        assert browser.get(f"/admin/{model}/").status_code == (200 if model in MODELS[role] else 403)
        if model not in ("accounts/role", "accounts/session"):
            expected = 200 if model in ADDED.get(role, ()) else 403
            # A user is added by an invitation.
            answer = browser.get(f"/admin/{model}/add/", allow_redirects=model == "accounts/user")
            assert answer.status_code == expected, model


def test_who_has_not_signed_in_goes_to_the_products_own_page_and_back(server: str, sign_in: SignIn) -> None:
    sign_in("viewer")
    answer = Client(server).get("/admin/jobs/job/?status=failed")
    assert answer.status_code == 302
    answer = Client(server).get(answer.headers["Location"])
    assert answer.headers["Location"] == "/signin?next=" + quote("/admin/jobs/job/?status=failed", safe="/")


@pytest.mark.parametrize("page", ["https://evil.example", "//evil.example", "javascript:alert(1)", ""])
def test_the_way_back_never_leads_away(server: str, page: str) -> None:
    answer = Client(server).get("/admin/login/", params={"next": page})
    assert answer.headers["Location"] == "/signin?next=/admin/"


def test_an_api_token_opens_no_page(server: str, sign_in: SignIn) -> None:
    sign_in("admin")
    _, secret = api_token_create(user=user_by_email("admin@example.com"), name="ci", actor=SYSTEM)
    assert Client(server, secret).get("/admin/").status_code == 302


def test_a_form_of_another_site_changes_nothing(admin: Browser) -> None:
    assert admin.post("/admin/pipelines/pipeline/add/", data={"name": "web"}).status_code == 403


@pytest.mark.parametrize("path", ["/admin", "/admin/jobs/job"])
def test_a_forgotten_slash_is_added(admin: Browser, path: str) -> None:
    answer = admin.get(path)
    assert answer.headers["Location"] == path + "/"


@pytest.mark.parametrize(
    "path", ["nothing/", "r/1/x/", "autocomplete/", "password_change/", "logout/", "jobs/nothing", "jobs/job/x/y/z"]
)
def test_what_needs_tables_or_is_the_products_own_is_not_there(admin: Browser, path: str) -> None:
    assert admin.get(f"/admin/{path}").status_code in (302, 404)
    assert "Traceback" not in admin.get(f"/admin/{path}").text


def test_a_cursor_of_another_list_leads_to_the_beginning_with_a_word(admin: Browser, scene: Scene) -> None:
    for path in ("/admin/pipelines/pipeline/?p=forged", "/admin/accounts/user/?role=admin&p=x.y"):
        answer = admin.get(path)
        assert answer.headers["Location"] == path[: path.index("p=")].rstrip("?&") + ("?" if "role" not in path else "")
        assert "The link does not belong to this list." in admin.said(answer)


def test_a_filter_that_is_not_declared_is_refused(admin: Browser) -> None:
    for query in ("password__startswith=md5", "email=admin@example.com", "session_epoch=0", "role__in=admin"):
        assert admin.get(f"/admin/accounts/user/?{query}").status_code == 400
    # A declared one with a value that there is not.
    assert admin.get("/admin/accounts/user/?role=root").headers["Location"] == "/admin/accounts/user/?e=1"


def test_a_cold_start_imports_no_page_of_the_admin() -> None:
    code = (
        "import django, sys; django.setup();"
        "import controlplane.wsgi;"
        "from django.test import Client;"
        "client = Client(SERVER_NAME='localhost');"
        "print(client.get('/health').status_code, client.get('/signin').status_code);"
        "print([name for name in sys.modules if name == 'controlplane.admin_urls' or name.startswith(PAGES)])"
    )
    pages = "('apps.accounts.admin', 'apps.jobs.admin', 'controlplane.nosql.admin.options')"
    ended = manage("-c", code.replace("PAGES", pages), SECRET_KEY="x" * 50)
    assert ended.stdout.split("\n")[:2] == ["200 200", "[]"], ended.stderr


PARAMETERS = st.sampled_from(
    [
        "q",
        "p",
        "o",
        "e",
        "all",
        "_popup",
        "_to_field",
        "_facets",
        "_changelist_filters",
        "role",
        "is_active",
        "user_id",
        "status",
        "region",
        "action",
        "pk",
        "id",
        "name",
        "day",
        "about",
        "revision",
        "email__startswith",
    ]
)
VALUES = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        [
            "0",
            "-1",
            "1",
            "%",
            "a#b",
            "yes",
            "healthy",
            "failed",
            "queued",
            "admin",
            "pk",
            "user_id",
            "2026-11-21",
            "9999-99-99",
            "user:",
            ":",
            "@",
        ]
    ),
    st.sampled_from(["", "\x00", "9" * 5000, "x" * 3000, "x" * 3000 + "@x", "€" * 800, "user:" + "€" * 800, "a" * 26]),
)
PATHS = st.sampled_from([f"/admin/{model}/" for model in EVERYTHING] + ["/admin/", "/admin/jobs/", "/admin/login/"])
TAILS = st.one_of(
    st.just(""),
    st.sampled_from(
        ["add/", "x/change/", "x/history/", "x/delete/", "x/password/", "_5F/change/", "%00/change/", "x/"]
    ),
    st.text(max_size=20).map(lambda text: quote(text, safe="") + "/change/"),
)


@pytest.mark.slow
@given(path=PATHS, tail=TAILS, query=st.lists(st.tuples(PARAMETERS, VALUES), max_size=4))
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_in_an_address_breaks_a_page(
    admin: Browser, path: str, tail: str, query: list[tuple[str, str]]
) -> None:
    answer = admin.get(path + tail, params=query)
    assert answer.status_code in (200, 302, 400, 403, 404, 414), (answer.request.url, answer.status_code)


@pytest.fixture
def form(admin: Browser) -> dict[str, str]:
    """What each form of this browser has."""
    page = admin.page("/admin/pipelines/pipeline/add/")
    return {"csrfmiddlewaretoken": re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]}


@pytest.mark.slow
@given(
    path=st.sampled_from([f"/admin/{model}/" for model in EVERYTHING]),
    tail=st.sampled_from(["", "add/", "{key}/change/", "{key}/delete/"]),
    body=st.dictionaries(
        st.sampled_from(
            ["action", "_selected_action", "index", "select_across", "confirmed", "_save", "_saveasnew", "_popup"]
        )
        | st.sampled_from(
            ["name", "email", "role", "revision", "config_version", "slots", "labels", "days", "hours", "uses"]
        )
        | st.sampled_from(
            ["permissions", "definition", "repository", "password", "_to_field", "_continue", "_addanother"]
        ),
        VALUES,
        max_size=8,
    ),
)
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_in_a_form_breaks_a_page(
    admin: Browser, form: dict[str, str], path: str, tail: str, body: dict[str, str]
) -> None:
    key = user_by_email("admin@example.com").user_id
    answer = admin.post(path + tail.format(key=key), data={**body, **form})
    assert "Reload the page" not in answer.text
    assert answer.status_code in (200, 302, 400, 403, 404, 405, 409, 413), (answer.request.url, answer.text[:3000])


def test_a_selection_that_is_gone_is_said(admin: Browser) -> None:
    answer = admin.act("/admin/agents/agent/", "drain", "01kaadmin00000000000000000")
    assert "The selected records no longer exist." in admin.said(answer)


def test_selecting_across_pages_selects_only_what_was_ticked(admin: Browser, scene: Scene) -> None:
    one, two = scene.agent("one"), scene.agent("two")
    page = admin.page("/admin/agents/agent/")
    assert set(keys(page)) == {one.id, two.id}
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
    data = {
        "csrfmiddlewaretoken": token,
        "action": "drain",
        "select_across": "1",
        "_selected_action": one.id,
        "index": "0",
    }
    answer = admin.post("/admin/agents/agent/", data=data)
    assert "two" not in admin.said(answer)


def test_every_script_and_style_of_a_page_is_there(admin: Browser) -> None:
    page = admin.page("/admin/accounts/user/")
    sources = re.findall(r'<(?:script[^>]* src|link[^>]* href)="([^"]+)"', page)
    assert "/admin/jsi18n/" in sources
    for source in sources:
        assert admin.session.get(admin.server + source, timeout=30).status_code == 200, source
