"""The language of `if` and of ``${{ … }}``."""

import ast
import inspect
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.pipeline import expressions
from agent.pipeline.expressions import (
    FACTS,
    FUNCTIONS,
    MAX_LENGTH,
    Context,
    Expression,
    ExpressionInvalid,
    NotYetKnown,
    Scope,
    condition_check,
    condition_met,
    template,
    template_begin,
    template_check,
)
from agent.pipeline.globs import glob_match
from tests.examples import examples

SCOPE = Scope(
    parameters={"count": "number", "dry": "flag", "target": "choice"},
    axes=["os"],
    needs={"build": ["VERSION"]},
    env=["MODE"],
    is_condition=True,
    has_files=True,
)
CONTEXT = Context(
    ref="refs/heads/main",
    branch="main",
    event="push",
    commit="c" * 40,
    pipeline="web",
    default_branch="main",
    parameters={"count": 3, "dry": False, "target": "staging"},
    changed_paths=["src/app/main.py", "README.md"],
    matrix={"os": "linux"},
    needs={"build": {"result": "success", "outputs": {"VERSION": "1.2"}}},
    env={"MODE": "fast"},
    hash_files=lambda patterns: "-".join(patterns),
)


def value(text: str, context: Context = CONTEXT) -> Any:
    expression = Expression.parse(text)
    expression.check(SCOPE)
    return expression.evaluate(context)


def refused(text: str) -> tuple[int, str]:
    """The offset and the message about an expression."""
    with pytest.raises(ExpressionInvalid) as caught:
        Expression.parse(text).check(SCOPE)
    return caught.value.offset, caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("branch == 'main'", True),
        ('branch != "main"', False),
        ("'it''s' == \"it's\"", True),
        ("tag == ''", True),
        ("parameters.count >= 3 && parameters.count < 3.5", True),
        ("parameters.count > -1", True),
        ("parameters.dry || !parameters.dry", True),
        ("parameters.target == 'staging'", True),
        # `&&` comes before `||`, and `!` before both.
        ("true || false && false", True),
        ("(true || false) && false", False),
        ("!false && false", False),
        ("matrix.os == 'linux'", True),
        ("env.MODE", "fast"),
        ("needs.build.result", "success"),
        ("needs.build.outputs.VERSION", "1.2"),
        ("changed('src/**')", True),
        ("changed('docs/**', '*.md')", True),
        ("changed('docs/**')", False),
        ("contains(pipeline, 'we')", True),
        ("starts_with(ref, 'refs/heads/')", True),
        ("ends_with(branch, 'x')", False),
        ("matches(ref, 'refs/*/ma?n')", True),
        ("hashFiles('a', 'b')", "a-b"),
        ("success()", True),
        ("failure() || cancelled()", False),
        ("always()", True),
        ("${{ branch == 'main' }}", True),
    ],
)
def test_an_expression_has_a_value(text: str, expected: Any) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("branch == ", 10, "must not end here; a value is missing"),
        ("branch = 'main'", 7, "must not have '=' here; did you mean ==?"),
        ("true and false", 5, "must not have 'and' here; did you mean &&?"),
        ("true & false", 5, "must not have '&' here; did you mean &&?"),
        ("not true", 4, "must not have 'true' here"),
        ("(true", 5, "must have a closing parenthesis here"),
        ("branch == 'main", 10, "must have a closing '"),
        ("branch == main", 10, "must not name the unknown 'main'; "),
        ("brunch == 'main'", 0, "must not name the unknown 'brunch'; did you mean branch?"),
        ("failure && true", 0, "must not name the unknown 'failure'; did you mean failure()?"),
        ("faliure()", 0, "must not call the unknown faliure(); did you mean failure()?"),
        ("__import__('os')", 0, "must not call the unknown __import__(); there are success(), "),
        ("parameters.coutn > 1", 0, "must not name the unknown 'parameters.coutn'; did you mean parameters.count?"),
        ("needs.build.outcome == 'success'", 0, "must be needs.build.result or needs.build.outputs.NAME"),
        ("needs.biuld.result == 'success'", 0, "must not name the unknown 'needs.biuld'; did you mean needs.build?"),
        ("needs.build.outputs.VERSOIN == ''", 0, "must not name the unknown 'needs.build.outputs.VERSOIN'; did you "),
        ("branch && true", 0, "must have true or false beside &&, not a text; compare it, as in a == b"),
        ("matrix.os == 3", 10, "must compare values of one type, not a text with a number"),
        ("branch < 'x'", 7, "must compare numbers with <, not a text"),
        ("changed()", 0, "must have other arguments: changed(pattern, …)"),
        ("contains(branch)", 0, "must have other arguments: contains(text, part)"),
        ("contains(branch, 1)", 17, "must have text as an argument of contains(), not a number"),
        ("branch.__class__", 0, "must not name the unknown 'branch.__class__'; "),
        ("1.2.3 == 1", 0, "must not have '1' here"),
        ("branch == 'a' == 'b'", 14, "must not have '==' here"),
    ],
)
def test_an_error_is_typed_and_names_its_place(text: str, offset: int, message: str) -> None:
    found = refused(text)
    assert found[0] == offset
    assert found[1].startswith(message)


def test_length_and_depth_have_limits() -> None:
    assert refused(f"'{'x' * MAX_LENGTH}' == ''")[1].startswith("must be an expression of at most 1,000 characters")
    assert Expression.parse("(" * 20 + "true" + ")" * 20)
    for deep in ("(" * 21 + "true" + ")" * 21, "!" * 21 + "true", "changed(" * 21 + "'a'" + ")" * 21):
        assert refused(deep)[1] == "must be nested at most 20 levels deep"


def test_nothing_is_given_to_pythons_own_eval() -> None:
    tree = ast.parse(inspect.getsource(expressions))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"eval", "exec", "compile", "__import__"}


def test_places_know_different_names() -> None:
    early = Scope(parameters={})
    for text, said in (
        ("success()", "must not call success() here; only `if` can"),
        ("hashFiles('a')", "must not call hashFiles() here; only `caches` can"),
        ("matrix.os == ''", "must not name matrix here, where it is not known; only jobs and `defaults` can"),
        (
            "needs.a.result == ''",
            "must not name needs here, where it is not known; only `if`, `env` and `concurrency` of a job can",
        ),
        ("env.A == ''", "must not name env here, where it is not known; only `if` and `concurrency` of a job can"),
    ):
        with pytest.raises(ExpressionInvalid) as caught:
            Expression.parse(text).check(early)
        assert caught.value.message == said
    with pytest.raises(ExpressionInvalid, match="must be true or false"):
        condition_check("branch", early)


@pytest.mark.parametrize(
    ("condition", "met", "failed", "cancelled", "runs"),
    [
        (None, True, False, False, True),
        (None, False, True, False, False),
        (None, True, False, True, False),
        ("branch == 'main'", True, False, False, True),
        # A condition that does not ask how the jobs before ended needs their success, too.
        ("branch == 'main'", False, True, False, False),
        ("always()", False, True, True, True),
        ("failure()", False, True, False, True),
        ("failure()", True, False, False, False),
        ("cancelled() && branch == 'main'", True, False, True, True),
        ("success()", True, False, False, True),
        ("!success()", False, True, False, True),
    ],
)
def test_a_condition_decides_about_a_job_whose_needs_have_ended(
    condition: str | None, met: bool, failed: bool, cancelled: bool, runs: bool
) -> None:
    context = Context(branch="main", needs_met=met, failed_before=failed, cancelled=cancelled, needs={})
    assert condition_met(condition, context) is runs


def test_changes_that_are_not_known_count_as_changed() -> None:
    assert value("changed('docs/**')", Context()) is True
    assert value("changed('docs/**')", Context(changed_paths=[])) is False


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("src/**", "src/a/b.py", True),
        ("src/**", "source/a", False),
        ("**/test_*.py", "a/b/test_x.py", True),
        ("**/test_*.py", "test_x.py", True),
        ("*.py", "a/b.py", False),
        ("**", "a/b/c", True),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/y", False),
        ("release/?.*", "release/1.2", True),
        ("release/?.*", "release/12", False),
        ("a*b*c", "axxbxxc", True),
        ("a*b*c", "axxcxxb", False),
        ("", "", True),
    ],
)
def test_patterns_match_parts_of_paths(pattern: str, text: str, matches: bool) -> None:
    assert glob_match(pattern, text) is matches


def test_a_hostile_pattern_costs_no_more_than_its_length() -> None:
    began = time.perf_counter()
    assert not glob_match("*a" * 100 + "b", "a" * 5000)
    assert not glob_match("**/a/" * 100 + "b", "a/" * 2000)
    assert time.perf_counter() - began < 5


def test_texts_are_filled_in() -> None:
    text = "v${{ needs.build.outputs.VERSION }}-${{ parameters.count }}-${{ parameters.dry }}-${{ '}}' }}$"
    template_check(text, SCOPE)
    assert template(text, CONTEXT) == "v1.2-3-false-}}$"
    assert template("nothing", CONTEXT) == "nothing"
    with pytest.raises(ExpressionInvalid) as caught:
        template_check("ok ${{ branch }} ${{ brunch }}", SCOPE)
    assert caught.value.offset == 21
    with pytest.raises(NotYetKnown):
        template("${{ needs.build.result }}", Context())


def test_what_is_not_known_yet_is_filled_in_later() -> None:
    begun = template_begin(
        "${{ branch }}-${{ needs.build.outputs.VERSION }}-${{ hashFiles('a') }}", Context(branch="b")
    )
    assert begun == "b-${{ needs.build.outputs.VERSION }}-${{ hashFiles('a') }}"
    assert template(begun, CONTEXT) == "b-1.2-a"


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(
        st.sampled_from(["${{ branch }}", "${{ needs.build.result }}", "$", "{", "{{ branch }}", "}}", "x"]), max_size=6
    ).map("".join),
    st.text(alphabet="${} branchneedsx'.", max_size=20) | st.sampled_from(["${{ needs.build.result }}", "$", "${", ""]),
)
@example("$${{ branch }}{{ branch }}", "")
@example("$${{ branch }}", "{{ needs.build.result }}")
def test_a_value_that_looks_like_an_expression_stays_a_value(text: str, branch: str) -> None:
    needs = {"build": {"result": "success"}}
    try:
        whole = template(text, Context(branch=branch, needs=needs))
    except ExpressionInvalid:
        return
    begun = template_begin(text, Context(branch=branch))
    assert template(begun, Context(branch="other", needs=needs)) == whole


TOKENS = [
    *FACTS,
    *(f"{name}(" for name in FUNCTIONS),
    "parameters.count",
    "matrix.os",
    "needs.build.result",
    "env.MODE",
]
TOKENS += ["'a'", '"b"', "1", "1.5", "true", "(", ")", ",", "!", "&&", "||", "==", "<", "${{", "}}", "é", "\0"]


@settings(max_examples=examples(80), deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from(TOKENS), max_size=12).map(" ".join))
def test_any_text_is_an_expression_with_a_value_or_is_refused_at_a_place_in_it(text: str) -> None:
    offsets = []
    try:
        template_check(text, SCOPE)
    except ExpressionInvalid as error:
        offsets.append(error.offset)
    kind = None
    try:
        expression = Expression.parse(text)
        kind = expression.check(SCOPE)
    except ExpressionInvalid as error:
        offsets.append(error.offset)
    assert all(0 <= offset <= len(text) for offset in offsets)
    if kind is None:
        return
    # What passes the check has a value of the type that the check names.
    found = expression.evaluate(CONTEXT)
    kinds: dict[str, Any] = {"flag": bool, "text": str, "number": (int, float)}
    assert isinstance(found, kinds[kind])
