"""What Gitea has from GitHub is read in the same way, and what each says in its own way is not lost."""

from dataclasses import replace

import pytest

from apps.sources.providers.github_format import commits_of, event_of, pull_request_of, push_of, repository_of
from apps.sources.providers.interface import Repository, SourceEvent
from apps.sources.providers.payloads import Payload
from apps.sources.states import EventKind
from controlplane.lib.errors import Unavailable
from tests.sources.hooks import NONE, A, B, C, Json, gitea_pull, gitea_push, github_pull, github_push

COMMON = SourceEvent(kind=EventKind.PUSH, repository="acme/shop", delivery_id="1", author="ada")
FOUND: Json = {"full_name": "acme/shop", "clone_url": "https://forge.example/acme/shop.git"}


@pytest.mark.parametrize("payload", [github_push(), gitea_push(), github_pull(), gitea_pull()])
def test_each_webhook_names_its_repository_and_sender(payload: Json) -> None:
    found, said = event_of(Payload(payload), "d-1"), payload["repository"]
    assert (found.repository, found.repository_id) == (said["full_name"], str(said["id"]))
    assert (found.clone_url, found.web_url) == (said["clone_url"], said["html_url"])
    assert (found.default_branch, found.delivery_id) == (said["default_branch"], "d-1")
    assert found.author == payload["sender"]["login"]


def test_a_webhook_without_a_repository_has_an_empty_name() -> None:
    assert event_of(Payload({}), "d-1") == SourceEvent(kind=EventKind.PUSH, repository="", delivery_id="d-1")


def test_a_push_of_a_branch_is_the_commit_after_it() -> None:
    said = {"ref": "refs/heads/a/b", "before": A, "after": B, "head_commit": {"id": C, "message": "Fix\n\nthe cart"}}
    assert push_of(Payload(said), COMMON) == replace(
        COMMON, ref="refs/heads/a/b", branch="a/b", before=A, after=B, message="Fix\n\nthe cart", title="Fix"
    )


@pytest.mark.parametrize(("head", "after"), [({"id": C}, C), (None, B)])
def test_a_push_of_a_tag_is_the_commit_that_the_tag_names(head: Json | None, after: str) -> None:
    said = {"ref": "refs/tags/v1", "before": NONE, "after": B, "head_commit": head}
    assert push_of(Payload(said), COMMON) == replace(
        COMMON, kind=EventKind.TAG, ref="refs/tags/v1", tag="v1", after=after
    )


@pytest.mark.parametrize("ref", ["refs/notes/x", "refs/heads/", "refs/tags/", "main", None])
def test_a_push_of_another_ref_is_none(ref: str | None) -> None:
    assert push_of(Payload({"ref": ref, "after": B}), COMMON) is None


def test_a_pull_request_has_its_branches_and_commits() -> None:
    pull = {
        "head": {"ref": "topic", "sha": B, "repo": {"full_name": "fork/shop"}},
        "base": {"ref": "main", "sha": A},
        "title": "Mend the cart",
        "user": {"login": "grace"},
        "html_url": "https://forge.example/acme/shop/pulls/7",
        "updated_at": 1795761000,
    }
    found = pull_request_of(Payload({"number": 7, "pull_request": pull}), COMMON)
    assert found is not None
    assert found.at is not None
    assert found.at.timestamp() == 1795761000
    assert replace(found, at=None) == replace(
        COMMON,
        kind=EventKind.PULL_REQUEST,
        number=7,
        ref="refs/pull/7/head",
        branch="topic",
        after=B,
        base="main",
        base_commit=A,
        head_repository="fork/shop",
        title="Mend the cart",
        message="Mend the cart",
        author="grace",
        url="https://forge.example/acme/shop/pulls/7",
    )


def test_a_pull_request_without_an_author_is_its_senders_and_one_without_a_number_is_none() -> None:
    found = pull_request_of(Payload({"number": 7}), COMMON)
    assert found == replace(COMMON, kind=EventKind.PULL_REQUEST, number=7, ref="refs/pull/7/head")
    assert pull_request_of(Payload({"pull_request": {"number": 7}}), COMMON) is None


def test_a_repository_is_private_unless_it_says_otherwise() -> None:
    assert repository_of(FOUND) == Repository(full_name="acme/shop", clone_url=FOUND["clone_url"], is_private=True)
    said = {"html_url": "https://w", "ssh_url": "git@s", "default_branch": "main", "private": False, "id": 5}
    assert repository_of(FOUND | said) == Repository(
        full_name="acme/shop",
        clone_url=FOUND["clone_url"],
        web_url="https://w",
        ssh_url="git@s",
        default_branch="main",
        is_private=False,
        repository_id="5",
    )


@pytest.mark.parametrize("member", ["full_name", "clone_url"])
def test_an_answer_without_a_repository_names_whose_it_is(member: str) -> None:
    found = {name: value for name, value in FOUND.items() if name != member}
    with pytest.raises(Unavailable, match=r"^Gitea's answer has no repositories\."):
        repository_of(found, product="Gitea")
    with pytest.raises(Unavailable, match=r"^The provider's answer has no repositories\."):
        repository_of(found)


def test_a_commit_has_the_account_of_its_author_or_else_the_name_and_one_line_of_500_characters() -> None:
    commit = {"author": {"name": "Ada"}, "message": f"{'x' * 501}\nmore"}
    expected = {"commit": A, "author": "ada", "message": "x" * 500, "url": "https://c"}
    said = {"sha": A, "author": {"login": "ada"}, "commit": commit, "html_url": "https://c"}
    nameless = {"sha": A, "author": None, "commit": commit}
    assert commits_of([said, nameless]) == [expected, expected | {"author": "Ada", "url": ""}]
