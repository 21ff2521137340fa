"""Error codes are stable, documented, and each is in use."""

import re
from pathlib import Path

from controlplane.lib.error_codes import ErrorCode
from tests.clients import Client

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [*ROOT.glob("apps/**/*.py"), *ROOT.glob("controlplane/**/*.py")]

# DRF's own errors have these; no code of ours names them.
BY_DRF = {ErrorCode.NOT_ACCEPTABLE, ErrorCode.UNSUPPORTED_MEDIA_TYPE, ErrorCode.METHOD_NOT_ALLOWED}


def test_every_code_is_in_use() -> None:
    used = {name for path in SOURCES for name in re.findall(r"ErrorCode\.([A-Z_]+)", path.read_text())}
    assert {code.name for code in ErrorCode} - used - {code.name for code in BY_DRF} == set()


def test_a_code_is_its_name_in_lower_case() -> None:
    assert [code.value for code in ErrorCode] == [code.name.lower() for code in ErrorCode]


def test_every_meaning_is_one_or_two_sentences() -> None:
    for code in ErrorCode:
        assert re.fullmatch(r"[A-Z].*\.", code.meaning), code
        assert 1 <= len(re.findall(r"[.] ?", code.meaning.replace("application/json.", "json."))) <= 2, code


def test_the_page_and_the_document_list_every_code_with_its_meaning(outsider: Client) -> None:
    page = outsider.get("/docs").text
    document = outsider.get("/schema", headers={"Accept": "application/json"}).json()
    described = document["components"]["schemas"]["ErrorCode"]
    assert described["enum"] == [code.value for code in ErrorCode]
    for code in ErrorCode:
        assert f'id="error-{code.value}"' in page
        assert f"- `{code.value}`: {code.meaning}" in described["description"]
