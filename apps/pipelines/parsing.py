"""Parsing a pipeline definition. The reader and PyYAML take long to load, so the first text to be parsed loads them."""

from apps.pipelines.definitions import Definition


def definition_parse(text: str) -> Definition:
    """The pipeline that `text` defines.

    Raises InvalidInput with the code ``definition_invalid``; its `errors` list every mistake as
    ``{"field": "steps[1].timeout", "line": 7, "message": …}``, in the order of the lines.
    """
    from apps.pipelines.definition_reader import definition_read

    return definition_read(text)
