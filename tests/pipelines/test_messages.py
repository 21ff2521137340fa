"""What the reader says about the mistakes that newcomers make."""

import pytest

from agent.pipeline.fields import Key, Members
from agent.pipeline.nodes import DefinitionInvalid
from agent.pipeline.reader import definition_read
from agent.pipeline.table import DEFINITION, GRAPH, JOB, STEP
from docs.guide.build import Entry, entries, example_file


def said(text: str) -> list[str]:
    """Each message about an invalid file, with its field."""
    with pytest.raises(DefinitionInvalid) as caught:
        definition_read(text)
    return [f"{found['field']}: {found['message']}" for found in caught.value.problems]


def message(text: str) -> str:
    """The only message about a file."""
    (found,) = said(text)
    return found


def of_job(member: str) -> str:
    """The only message about a job with this member; `build` is before it, `other` is not."""
    return message(
        f"jobs:\n  build: {{steps: [{{run: make}}]}}\n  test:\n    needs: build\n    steps: [{{run: make}}]\n"
        f"    {member}\n  other: {{steps: [{{run: make}}]}}\n"
    ).removeprefix("jobs.test.")


def condition(text: str) -> str:
    return of_job(f'if: "{text}"')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps: make test", "steps: must be a list, not the text 'make test'; as in steps: [{run: make}]"),
        ("steps:", "steps: must be a list, not empty; as in steps: [{run: make}]"),
        ("jobs: [build]", "jobs: must be a mapping (key: value), not a list; as in jobs: {test: "),
        ("on: push", "on: must be a mapping (key: value), not the text 'push'; as in on: {push: {}}"),
        ("on: [push]", "on: must be a mapping (key: value), not a list; as in on: {push: {}}"),
        ("env: [A=1]", "env: must be a mapping (key: value), not a list; as in env: {CI: 'true'}"),
        ("labels: linux", "labels: must be a list, not the text 'linux'; as in labels: [linux]"),
        ("caches: {key: a}", "caches: must be a list, not a mapping; as in caches: [{key: pip, paths: [.cache/pip]}]"),
        ("artifacts: [dist/]", "artifacts: must be a mapping (key: value), not a list; as in artifacts: {paths: ['di"),
        ("timeout: [10]", "timeout: must be a time from 1 second to 24 hours, as in 90, 90s, 10m or 1h30m, not a list"),
        ("container: {image: x}", "container: must be text, not a mapping; write only the image, as in container: py"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_with_the_example_of_its_key(text: str, expected: str) -> None:
    other = "" if text.startswith(("steps", "jobs")) else "steps: [{run: make}]\n"
    assert message(other + text).startswith(expected)


def test_an_environment_with_variables_is_refused_with_the_key_that_they_belong_to() -> None:
    assert of_job("environment: {A: b}") == (
        "environment: must be text, not a mapping; write only its name, as in environment: production; variables "
        "belong in `env`"
    )


def test_a_script_that_is_a_list_is_refused_with_the_way_to_write_several_lines() -> None:
    assert message("steps: [{run: [a, b]}]") == "steps[0].run: must be text, not a list; write the lines below `run: |`"


def test_a_step_that_is_only_a_text_is_refused_with_run_before_it() -> None:
    assert message("steps: [make test]") == (
        "steps[0]: must be a mapping (key: value), not the text 'make test'; write `run:` before it, as in run: make "
        "test"
    )


def test_a_key_without_a_space_after_its_colon_is_refused_with_the_advice_to_write_one() -> None:
    assert message("steps:\n  - run:make\n").endswith(
        "not the text 'run:make'; write a space after the colon of `run:`"
    )
    assert message("steps:[]").endswith("not the text 'steps:[]'; write a space after the colon of `steps:`")


def test_a_job_that_is_no_mapping_is_refused_with_the_steps_that_it_needs() -> None:
    for value in ("make", "[{run: make}]"):
        assert message(f"jobs: {{a: {value}}}").endswith("; as in steps: [{run: make}]")


def test_an_empty_value_is_refused_with_what_it_must_be() -> None:
    assert message("steps: [{run: }]") == "steps[0].run: must be text, not empty; write the lines below `run: |`"
    assert message("steps: [{run: x, env: {A: }}]").endswith('must have a value; write "" for an empty text')
    assert "must be a time from 1 second to 24 hours" in message("steps: [{run: x, timeout: }]")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("image", "write `container` instead, as in container: python:3.12-slim"),
        ("stage", "write `needs` instead, as in needs: [build]"),
        ("depends_on", "write `needs` instead, as in needs: [build]"),
        ("tags", "write `labels` instead, as in labels: [linux]"),
        ("variables", "write `env` instead, as in env: {CI: 'true'}"),
        ("rules", "write `if` instead, as in if: branch == 'main'"),
        ("strategy", "write `matrix` instead, as in matrix: {axes: {python: ['3.11', '3.12']}}"),
        ("script", "write `steps` instead, as in steps: [{run: make}]"),
        ("before_script", "write its commands as steps in `steps`"),
        ("name", "remove it; a job has its name before the colon"),
    ],
)
def test_a_word_of_another_product_is_refused_with_the_key_that_means_it(name: str, expected: str) -> None:
    # Whole files of other products get a message of their own first.
    found = said(f"jobs:\n  test:\n    {name}: [make]\n    steps: [{{run: make}}]\n")
    assert found[-1] == f"jobs.test.{name}: unknown key {name!r}; {expected}"


def test_no_word_of_another_product_is_a_key_here_or_stands_for_two() -> None:
    for members in (DEFINITION, GRAPH, JOB, STEP):
        assert isinstance(members, Members)
        words = [word for key in members.keys.values() for word in key.foreign]
        assert len(words) == len({*words, *members.keys}) - len(members.keys)


def test_a_key_of_a_step_that_only_jobs_or_other_products_have_is_refused_with_what_to_write() -> None:
    for name, advice in (
        ("if", "only jobs have `if`; test it in the script"),
        ("script", "write `run` instead, as in run: make test"),
        ("working-directory", "write `cd` at the beginning of `run`"),
    ):
        for text in ("steps: [{{{}}}]", "jobs: {{a: {{steps: [{{{}}}]}}}}"):
            found = said(text.format(f"run: make, {name}: x"))
            assert found[-1].endswith(f".steps[0].{name}: unknown key {name!r}; {advice}".lstrip("."))


def test_a_key_of_the_file_that_is_not_needed_or_belongs_to_jobs_is_refused_with_what_to_do() -> None:
    jobs = "jobs: {a: {steps: [{run: make}]}}\n"
    for text in (jobs, "steps: [{run: make}]\n"):
        assert message(f"version: 1\n{text}") == "version: unknown key 'version'; remove it; no version is needed"
        assert message(f"name: x\n{text}").endswith("remove it; the control plane has the pipeline's name")
    assert message(f"image: x\n{jobs}") == (
        "image: unknown key 'image'; write `container` instead, in `defaults` or in a job, as in container: "
        "python:3.12-slim"
    )


def test_a_key_of_a_job_that_is_given_to_a_step_is_refused_with_its_place() -> None:
    for name in (*JOB.keys, "continue_on_error"):
        if name not in STEP.keys:
            found = message(f"jobs: {{a: {{steps: [{{run: make, {name}: x}}]}}}}")
            assert "allowed are" not in found
            assert "did you mean" not in found
    assert message("steps: [{run: make, retries: 1}]").endswith("; write it beside `steps`, for the whole job")


def test_a_key_of_a_job_without_its_indentation_is_refused_with_the_advice_to_indent_it() -> None:
    assert said("jobs:\n  build:\n  steps: [{run: make}]\n") == [
        "jobs.build: must be a mapping (key: value), not empty; as in steps: [{run: make}]",
        "jobs.steps: must be a mapping (key: value), not a list; indent it more, if it belongs to the key above",
    ]


@pytest.mark.parametrize(
    "text", ["job: {a: {steps: [{run: x}]}}", "build: {steps: [{run: x}]}", "pipeline: {jobs: {}}"]
)
def test_a_job_at_the_top_of_the_file_is_refused_once_with_the_key_that_it_belongs_to(text: str) -> None:
    assert message(text).endswith("; write a job under `jobs`, as in jobs: {test: {steps: [{run: make}]}}")


def test_needs_with_the_name_of_a_job_as_a_key_are_refused_once_with_their_form() -> None:
    for value in ("{build: success}", "[{name: build}]"):
        assert message(f"jobs: {{a: {{steps: [{{run: x}}], needs: {value}}}}}").endswith(
            "allowed are job, result; as in {job: build, result: any}"
        )


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("push: main", "on.push: must be a mapping (key: value), not the text 'main'; as in push: {branches: [main, "),
        (
            "push: {tags: [v*]}",
            "on.push.tags: unknown key 'tags'; write them beside `push`, as in tag: {names: ['v*']}",
        ),
        ("merge_request: ", "on.merge_request: unknown key 'merge_request'; write `pull_request` instead, as in pull_"),
        (
            "workflow_dispatch: ",
            "on.workflow_dispatch: unknown key 'workflow_dispatch'; remove it; a run can always be",
        ),
        ("cron: '* * * * *'", "on.cron: unknown key 'cron'; write `schedule` instead, as in schedule: [{cron: 30 3 * "),
        (
            "schedule: [{cron: '@daily'}]",
            "on.schedule[0].cron: must be five fields as cron has them, in numbers, as in ",
        ),
    ],
)
def test_an_event_as_other_products_have_it_is_refused_with_what_to_write(event: str, expected: str) -> None:
    assert message(f"on: {{{event}}}\nsteps: [{{run: make}}]").startswith(expected)


def test_a_short_word_for_a_time_is_refused_with_its_five_fields() -> None:
    assert message("on: {schedule: [{cron: '@daily'}]}\nsteps: [{run: x}]").endswith("not '@daily'; write 0 0 * * *")


def test_a_parameter_or_an_axis_that_is_only_a_text_is_refused_with_its_form() -> None:
    assert message("parameters: {target: staging}\njobs: {a: {steps: [{run: x}]}}").endswith(
        "not the text 'staging'; write `default:` before it, as in default: staging"
    )
    assert of_job("matrix: {axes: {os: linux}}").endswith("must be a list, not the text 'linux'; as in [linux]")


def test_names_in_one_text_are_refused_with_the_list_to_write() -> None:
    assert of_job("artifacts: {from: 'build, other'}").endswith(
        "not 'build, other'; write a list, as in [build, other]"
    )


def test_a_list_that_is_left_empty_is_refused_with_the_example_of_its_key() -> None:
    assert of_job("artifacts: {paths: }") == "artifacts.paths: must be a list, not empty; as in paths: ['dist/**']"


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ("concurrency: {name: x}", "concurrency.name: unknown key 'name'; write `group` instead, as in group: deploy"),
        ("caches: [{name: a, paths: a}]", "caches[0].name: unknown key 'name'; write `key` instead, as in key: pip"),
    ],
)
def test_a_required_key_with_the_name_of_another_product_is_refused_once(member: str, expected: str) -> None:
    assert of_job(member) == expected


def test_outputs_with_values_are_refused_with_the_file_that_steps_write_them_to() -> None:
    assert of_job("outputs: {V: x}").endswith(
        "write only the names, as in outputs: [VERSION]; steps write the values to $HYBRID_CI_OUTPUT"
    )


def test_a_key_that_is_no_default_is_refused_with_its_place() -> None:
    jobs = "jobs: {a: {steps: [{run: x}]}}\n"
    assert message(f"{jobs}defaults: {{env: {{A: b}}}}").endswith("'env'; write it at the top of the file")
    assert message(f"{jobs}defaults: {{outputs: [V]}}").endswith("'outputs'; write it in each job")


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("!make", "must not have the tag !make; put a text that begins with ! in quotes"),
        ("*make", "must not be the alias *make; write the value itself, and a text that begins with * in quotes"),
        ("&make", "must be in quotes if it is a text that begins with &"),
    ],
)
def test_a_text_that_begins_with_a_sign_of_yaml_is_refused_once_with_the_advice_to_quote_it(
    value: str, advice: str
) -> None:
    assert message(f"steps:\n  - run: {value}\n") == f"steps[0].run: {advice}"


def test_an_axis_beside_axes_is_refused_with_the_key_that_it_belongs_to() -> None:
    assert of_job("matrix: {python: ['3.11']}") == (
        "matrix.python: unknown key 'python'; allowed are axes, include, exclude, max_parallel, fail_fast; write an "
        "axis under `axes`, as in axes: {python: ['3.11', '3.12']}"
    )


def test_a_required_key_with_a_wrong_name_is_not_missing_too() -> None:
    assert message("steps: [{runs: make}]") == "steps[0].runs: unknown key 'runs'; did you mean 'run'?"
    assert message("stpes: [{run: make}]") == "stpes: unknown key 'stpes'; did you mean 'steps'?"
    assert message("jobs: {a: {script: make}}") == (
        "jobs.a.script: unknown key 'script'; write `steps` instead, as in steps: [{run: make}]"
    )
    assert message("jobs: {a: {timeout: 5m}}") == "jobs.a.steps: must be given, as in steps: [{run: make}]"


@pytest.mark.parametrize(
    ("word", "meant"),
    [("boolean", "flag"), ("string", "text"), ("Integer", "number"), ("enum", "choice"), ("chioce", "choice")],
)
def test_a_choice_is_refused_with_the_one_that_was_probably_meant(word: str, meant: str) -> None:
    assert message(f"parameters: {{p: {{type: {word}}}}}\njobs: {{a: {{steps: [{{run: x}}]}}}}") == (
        f"parameters.p.type: must be text, number, choice or flag, not {word!r}; did you mean {meant}?"
    )


def test_a_cache_outside_of_the_workspace_is_refused_with_the_way_to_have_it_inside() -> None:
    advice = "; set the tool's cache folder to one in the workspace, as in `env: {PIP_CACHE_DIR: .cache/pip}`"
    for path in ("~/.cache", "/root/.m2"):
        refused = f"caches: [{{key: a, paths: ['{path}']}}]"
        assert of_job(refused).endswith(f"not '{path}'{advice}")
        assert message(f"steps: [{{run: x}}]\n{refused}").endswith(f"not '{path}'{advice}")
    assert "cache folder" not in of_job("artifacts: {paths: ~/x}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("branch == main", "must not name the unknown 'main'; write a text in quotes, as in 'main'; there are ref, "),
        (
            "branch == staging",
            "must not name the unknown 'staging'; write a text in quotes, as in 'staging'; there are",
        ),
        ("branch in ('a', 'b')", "must not have 'in' here; compare each value, as in branch == 'a' || branch == 'b'"),
        ("branch == `a`", "must not have '`' here; write a text in quotes, as in 'main'"),
        ("branch + tag == 'a'", "must not have '+' here; operators are ==, !=, <, <=, >, >=, &&, ||, !"),
        ("branch 'a'", "must not have \"'a'\" here; an operator such as == or && is missing before it"),
        ("branch != null", "must not name the unknown 'null'; did you mean ''?"),
        ("changed(src/**)", "must not have '/' here; write a path or a pattern in quotes, as in 'src/**'"),
        ("hashFiles(a.txt) == ''", "must not call hashFiles() here; only `caches` can"),
        ("contains(branch, a.txt)", "must not name the unknown 'a.txt'; write a text in quotes, as in 'a.txt'; there"),
        ("changed(['a'])", "must not have '[' here; write several values without brackets, as in changed('src/**', '"),
        ("${{ branch == 'a'", "must not have '$' here; write }} at the end of the expression, or leave out ${{"),
        ("{{ branch == 'a' }}", "must not have '{' here; write the expression without {{ and }}"),
        ("branch == 'a')", "must not have ')' here; there is no parenthesis that it closes"),
        ("(tag == '') && ()", "must not have ')' here; a value is missing before it"),
        ("&& branch == 'a'", "must not have '&&' here; a value is missing before it"),
        ("branch == 1", "must compare values of one type, not a text with a number; write the text in quotes"),
        ("success() == 'true'", "must compare values of one type, not a flag with a text; write the flag without quot"),
        ("success() == 1", "must compare values of one type, not a flag with a number"),
        ("yes", "must not name the unknown 'yes'; did you mean true?"),
        ("secrets.A == ''", "must not name the unknown 'secrets.A'; steps get secrets as variables; write the name in"),
        ("needs.build == 'success'", "must be needs.build.result or needs.build.outputs.NAME"),
        ("needs.build.status == 'success'", "must be needs.build.result or needs.build.outputs.NAME"),
        ("$BRANCH == 'x'", "must not have '$' here; write a variable without $, as in env.BRANCH"),
        ("${BRANCH} == 'x'", "must not have '$' here; write a variable without $, as in env.BRANCH"),
        ("$CI_COMMIT_BRANCH == 'x'", "must not have '$' here; did you mean branch?"),
        ("CI_COMMIT_TAG != ''", "must not name the unknown 'CI_COMMIT_TAG'; did you mean tag?"),
        ("github.ref == 'refs/heads/main'", "must not name the unknown 'github.ref'; did you mean ref?"),
        ("github.actor == 'a'", "must not name the unknown 'github.actor'; /docs/other-ci shows what to write instead"),
        ("CI_RUNNER_ID == 'a'", "must not name the unknown 'CI_RUNNER_ID'; /docs/other-ci shows what to write instead"),
        ("branch =~ 'a'", "must not have '=' here; write matches(branch, 'release/*') to compare with a pattern"),
        ("not changed('a')", "must not have 'changed' here; did you mean ! instead of not?"),
        ("startsWith(branch, 'a')", "must not call the unknown startsWith(); did you mean starts_with()?"),
    ],
)
def test_a_condition_as_other_languages_have_it_is_refused_with_what_to_write(text: str, expected: str) -> None:
    assert condition(text).removeprefix("if: ").startswith(expected)


def test_a_job_that_is_named_without_being_needed_is_refused_with_the_advice_to_need_it() -> None:
    for name in ("needs.other.result", "needs.other.outputs.V"):
        assert condition(f"{name} == 'x'") == ("if: must name a job in `needs`; add 'other' to the `needs` of this job")


def test_an_output_that_is_not_declared_is_refused_with_the_advice_to_declare_it() -> None:
    assert condition("needs.build.outputs.V == 'x'") == (
        "if: must not name the unknown 'needs.build.outputs.V'; add 'V' to the `outputs` of that job"
    )


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (
            "steps:\n  - run: echo a: b\n",
            "put a text that has a colon and a space in quotes, or on the lines below `run",
        ),
        ("steps:\n\t- run: make\n", "indent with spaces, not with tabs"),
        ('steps:\n  - run: "make\n', "a quote is not closed"),
        ("steps: [{run: make\n", "close the bracket, put a comma between the entries, "),
        ("steps:\n  - run: @make\n", "put a text that begins with this character in quotes"),
        ("steps:\n  - run: make\n    env: {A: *.py}\n", "put a text that begins with * in quotes"),
        (
            'steps:\n  - run: "make" all\n',
            "begin the keys of one mapping, and the entries of one list, in the same col",
        ),
        (
            "steps:\n  - run: make\n - run: make\n",
            "begin the keys of one mapping, and the entries of one list, in the ",
        ),
        ("steps: - run: make\n", "begin a list on the line below its key"),
        ("steps:\n  - run: [ -f x ] && make\n", "put a text that begins with & or [ in quotes"),
        ('steps:\n  - run: "grep \\d"\n', "put a text with \\ in single quotes"),
        ("steps:\n  - run: | make\n", "write the text on the lines below | or >, which stand alone"),
        ("steps:\n  - run: make\n  env\n", "write a space after the colon, as in `key: value`"),
    ],
)
def test_what_is_no_yaml_is_refused_with_the_way_to_mend_it(text: str, advice: str) -> None:
    found = message(text)
    assert found.startswith("definition: must be valid YAML: ")
    assert f"; {advice}" in found


def test_a_text_that_begins_with_a_bracket_is_refused_once_with_the_advice_to_quote_it() -> None:
    assert of_job("env: {A: {{ branch }}}") == (
        "env.A: must have only text as keys; put a text that begins with { or [ in quotes"
    )


def test_a_merge_is_refused_with_one_message_that_names_the_defaults() -> None:
    for value in ("*base", "{timeout: 5m}"):
        assert of_job(f"<<: {value}") == (
            "<<: must not be used to merge mappings; write the keys here, or for all jobs in `defaults`"
        )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("jobs: {a: {runs-on: x, steps: [{run: x}]}}", "github"),
        ("a: {script: x}", "gitlab"),
        ("steps: [{command: x}]", "buildkite"),
    ],
)
def test_a_file_for_another_product_is_refused_with_the_command_that_converts_it(text: str, name: str) -> None:
    assert said(text)[0].endswith(
        f"its page /docs/other-ci shows what to write instead, and `manage.py pipeline_import --from {name}` converts "
        "the file"
    )


def test_a_product_whose_files_are_not_converted_has_only_its_page() -> None:
    assert said("version: 2.1\nworkflows: {}\n")[0].endswith("its page /docs/other-ci shows what to write instead")


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: f"{entry.parent}.{entry.name}".lstrip("."))
def test_the_example_of_a_message_has_one_line_and_is_valid(entry: Entry) -> None:
    line = entry.key.line
    assert "\n" not in line
    assert line.startswith(f"{entry.name}: ")
    definition_read(example_file(Entry(entry.parent, entry.name, Key(entry.key.kind, example=line), entry.required)))


@pytest.mark.parametrize("name", DEFINITION.keys)
def test_the_example_of_a_message_is_also_valid_in_a_file_with_steps_only(name: str) -> None:
    line = DEFINITION.keys[name].line
    assert "\n" not in line
    definition_read(line if name == "steps" else f"steps: [{{run: make}}]\n{line}")
