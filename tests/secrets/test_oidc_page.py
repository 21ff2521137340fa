"""The examples of docs/oidc.md are right as far as they are this product's: pipeline files, subjects and claims."""

import json
import re

import pytest
from django.conf import settings

from apps.pipelines.parsing import pipeline_parse
from apps.secrets.services.identity_claims import CLAIMS, subject_of
from tests.secrets.test_identity_claims import COMMIT, identity

PAGE = (settings.BASE_DIR / "docs" / "oidc.md").read_text()
SUBJECT = "pipeline:web:environment:production:ref:refs/heads/main"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_each_pipeline_is_valid_and_asks_for_a_token_in_a_job_with_an_environment(text: str) -> None:
    pipeline = pipeline_parse(text)
    (job,) = pipeline.jobs.values()
    assert job.environment == "production"
    assert 'python3 "$HYBRID_CI_AGENT" token --audience ' in "".join(step.run for step in job.steps)


def test_every_recipe_trusts_one_whole_subject() -> None:
    assert subject_of(identity(environment="production")) == SUBJECT
    recipes = PAGE.split("\n## ")[3:7]
    assert [recipe.split("\n")[0] for recipe in recipes] == [
        "AWS",
        "Google Cloud",
        "Azure",
        "HashiCorp Vault and OpenBao",
    ]
    for recipe in recipes:
        assert SUBJECT in recipe
        assert len(re.findall(r"^```yaml$", recipe, re.MULTILINE)) == 1
        assert "**How it goes wrong:**" in recipe


def test_the_trust_policy_of_aws_compares_audience_and_subject_exactly() -> None:
    (policy,) = (json.loads(block) for block in blocks("json"))
    (statement,) = policy["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"] == {
        "StringEquals": {"ci.example.com:aud": "sts.amazonaws.com", "ci.example.com:sub": SUBJECT}
    }


def test_the_page_has_every_claim_and_every_form_of_the_subject() -> None:
    rows = "".join(re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", rows)) >= set(CLAIMS)
    forms = [
        identity(git_ref="main"),
        identity(git_ref="refs/tags/v1.0"),
        identity(environment="production"),
        identity(event="pull_request"),
    ]
    for form in forms:
        assert f"`{subject_of(form)}`" in PAGE
    assert f"`{subject_of(identity(git_ref=COMMIT))[:26]}" in PAGE
