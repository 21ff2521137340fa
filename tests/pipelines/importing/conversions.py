"""What tests of the importer share."""

from textwrap import dedent

from apps.pipelines.definitions import Job, Pipeline
from apps.pipelines.importing.converting import Conversion, pipeline_convert
from apps.pipelines.parsing import pipeline_parse


def convert(product: str, text: str) -> Conversion:
    """A conversion whose result our own reader has taken."""
    conversion = pipeline_convert(product, dedent(text))
    pipeline_parse(conversion.text)
    return conversion


def pipeline(product: str, text: str) -> Pipeline:
    return pipeline_parse(convert(product, text).text)


def jobs(product: str, text: str) -> dict[str, Job]:
    return pipeline(product, text).jobs


def remarks(product: str, text: str) -> list[str]:
    return [str(remark) for remark in convert(product, text).remarks]
