"""No file makes the importer fail otherwise than with a sentence, and whatever it writes is a valid pipeline file."""

import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.pipelines.importing import PRODUCTS
from apps.pipelines.importing.converting import pipeline_convert
from apps.pipelines.importing.remarks import ImportRefused
from apps.pipelines.parsing import pipeline_parse
from tests.examples import examples

_BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
_DEEP_EXTENDS = "".join(f".b{number}: {{extends: .b{number + 1}}}\n" for number in range(40)) + "j: {extends: .b0}"
_WIDE_EXTENDS = "".join(
    f".e{number}: {{extends: [{', '.join([f'.e{number + 1}'] * 9)}], variables: {{V{number}: x}}}}\n"
    for number in range(9)
)
HOSTILE = {
    "empty": ("", "empty"),
    "aliases that grow": (f"{_BOMB}jobs: *h\n", "50,000 values"),
    "alias within itself": ("jobs: &a [*a]", "inside of what it stands for"),
    "alias of nothing": ("jobs: *a", "no anchor"),
    "too large": ("x: " + "y" * 600_000, "600,003 bytes"),
    "too deep": ("x: " + "[" * 5000, "nested more than 40"),
    "no YAML": ("jobs: {a: [", "not valid YAML"),
    "tabs": ("jobs:\n\ta: 1", "not valid YAML"),
    "control character": ("jobs: \x01", "not valid YAML"),
    "escape too large": ('jobs: "\\UFFFFFFFF"', "not valid YAML"),
    "key that is a list": ("? [a]\n: 1", "a key is a list"),
    "several documents": ("a: 1\n---\nb: 1\n---\nc: 1", "documents"),
    "text": ("hello", ""),
    "list of text": ("[a, b]", ""),
    "null": ("~", ""),
}


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize(("text", "why"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_with_a_sentence_and_soon(product: str, text: str, why: str) -> None:
    began = time.monotonic()
    with pytest.raises(ImportRefused) as refusal:
        pipeline_convert(product, text)
    assert why in str(refusal.value)
    assert str(refusal.value)[0].isupper()
    assert str(refusal.value).endswith(".")
    assert len(str(refusal.value)) < 400
    assert time.monotonic() - began < 30


def test_a_file_with_too_many_keys_is_refused() -> None:
    with pytest.raises(ImportRefused, match="50,000 values"):
        pipeline_convert("gitlab", "".join(f"{number:x}: 1\n" for number in range(26_000)))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (_DEEP_EXTENDS, "levels deep"),
        ("a: {extends: a, script: x}", "levels deep"),
        (f"{_WIDE_EXTENDS}.e9: {{}}\nj: {{extends: .e0, script: x}}", "too large"),
        ("a: {script: !reference [a, script]}", "levels deep"),
        ("a: {needs: [b], script: x}\nb: {needs: [a], script: x}", "lead back"),
    ],
)
def test_templates_that_grow_or_go_in_circles_are_refused(text: str, why: str) -> None:
    with pytest.raises(ImportRefused, match=why):
        pipeline_convert("gitlab", text)


def test_an_order_that_takes_too_many_needs_is_refused_with_what_to_do() -> None:
    jobs = "".join(f"j{number}: {{stage: {'abc'[number % 3]}, script: x, only: [tags]}}\n" for number in range(300))
    with pytest.raises(ImportRefused, match="give its jobs needs of their own"):
        pipeline_convert("gitlab", f"stages: [a, b, c]\n{jobs}")


def test_variables_that_grow_stop_their_job_and_nothing_else() -> None:
    grown = ", ".join(f"V{number}: '{f'$V{number + 1}' * 20}'" for number in range(9))
    conversion = pipeline_convert("gitlab", f"variables: {{{grown}, V9: x}}\na: {{script: echo, image: $V0}}")
    assert "too long" in str(conversion.remarks[0])
    assert len(conversion.text) < 50_000


def test_a_matrix_is_not_unfolded_beyond_a_limit() -> None:
    axis = "[" + ", ".join(str(number) for number in range(60)) + "]"
    axes = f"A: {axis}, B: {axis}, C: {axis}"
    files = {
        "github": f"jobs: {{a: {{runs-on: x, strategy: {{matrix: {{x: [{{y: 1}}], {axes}}}}}, steps: [{{run: x}}]}}}}",
        "gitlab": f"a: {{script: x, parallel: {{matrix: [{{{axes}}}]}}}}",
        "buildkite": f"steps: [{{command: x, matrix: {{setup: {{{axes}}}}}}}]",
    }
    for product, text in files.items():
        conversion = pipeline_convert(product, text)
        assert conversion.whole == 0
        pipeline_parse(conversion.text)


_WORDS = """
    a .a b steps jobs run uses name script extends needs stage stages image variables rules if when only except default
    include matrix strategy include exclude setup adjustments with env on push runs-on timeout-minutes retry parallel
    artifacts paths cache key files plugins command commands group wait block depends_on agents branches services
    container outputs concurrency concurrency_group soft_fail automatic exit_status trigger environment secrets
    fields options reports junit workflow_dispatch inputs type id continue-on-error working-directory shell
"""
_TEXTS = r"""
    make; $CI_COMMIT_SHA; ${{ matrix.a }}; ${{ secrets.X }}; github.ref == 'x'; actions/cache@v4; true; ~; wait; 10; é;
    actions/upload-artifact@v4; $A =~ /x(/; {{matrix}}; a && (b; docker#v1; 1 week; /x/; a: b; ../x; '; \; Ship?;
    ${{ steps.a.outputs.b }}; x=${{ env.a }} >> $GITHUB_OUTPUT; build.env('A') != null; $GITHUB_ENV; ${; ${{
"""
KEYS = st.sampled_from(_WORDS.split())
TEXTS = st.one_of(st.sampled_from([text.strip() for text in _TEXTS.split(";")]), st.text(max_size=12))
TREES = st.recursive(
    st.one_of(TEXTS, st.none(), st.booleans(), st.integers(-5, 10**6)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=25,
)
JOBS = st.dictionaries(KEYS, TREES, max_size=7)
FILES = {
    "github": st.builds(
        lambda top, jobs, steps: {**top, "jobs": {**jobs, "a": {"runs-on": "x", "steps": steps}}},
        st.dictionaries(KEYS, TREES, max_size=3),
        st.dictionaries(KEYS, JOBS, max_size=3),
        st.lists(JOBS, max_size=4),
    ),
    "gitlab": st.builds(lambda top, jobs: {**top, **jobs}, JOBS, st.dictionaries(KEYS, JOBS, max_size=4)),
    "buildkite": st.builds(
        lambda top, steps: {**top, "steps": steps}, JOBS, st.lists(st.one_of(JOBS, TEXTS), max_size=5)
    ),
}


@settings(max_examples=examples(25), deadline=None)
@given(st.sampled_from(PRODUCTS).flatmap(lambda product: st.tuples(st.just(product), FILES[product])))
def test_any_file_is_converted_to_a_valid_one_or_refused_with_a_sentence(
    given_file: tuple[str, dict[str, Any]],
) -> None:
    product, tree = given_file
    _convert_or_refuse(product, yaml.safe_dump(tree, allow_unicode=True))


@settings(max_examples=examples(25), deadline=None)
@given(st.sampled_from(PRODUCTS), st.text(max_size=60))
def test_any_text_is_refused_or_converted(product: str, text: str) -> None:
    _convert_or_refuse(product, text)


def _convert_or_refuse(product: str, text: str) -> None:
    try:
        conversion = pipeline_convert(product, text)
    except ImportRefused as refusal:
        why = str(refusal)
    else:
        why = ""
        pipeline_parse(conversion.text)
        assert conversion.jobs >= conversion.whole
    assert "no valid pipeline file" not in why
