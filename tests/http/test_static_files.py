"""Static files: WhiteNoise serves them, and looks for them only when one is asked for."""

import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from whitenoise.middleware import WhiteNoiseMiddleware

from controlplane.http.static_files import StaticFilesMiddleware


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[WhiteNoiseMiddleware]:
    """Each WhiteNoise that is made."""
    found: list[WhiteNoiseMiddleware] = []
    real = WhiteNoiseMiddleware.__init__

    def init(self: WhiteNoiseMiddleware, *arguments: object) -> None:
        found.append(self)
        real(self, *arguments)

    monkeypatch.setattr(WhiteNoiseMiddleware, "__init__", init)
    return found


def test_a_start_and_other_requests_do_not_look_for_static_files(made: list[WhiteNoiseMiddleware]) -> None:
    middleware = StaticFilesMiddleware(lambda request: HttpResponse(request.path_info))
    assert middleware(RequestFactory().get("/health")).content == b"/health"
    assert not made


def test_static_files_are_looked_for_once(made: list[WhiteNoiseMiddleware]) -> None:
    middleware = StaticFilesMiddleware(lambda _: HttpResponse(status=404))
    for path, status in (("/static/app.css", 200), ("/static/app.css", 200), ("/static/none.css", 404)):
        response = middleware(RequestFactory().get(path))
        response.close()
        assert response.status_code == status
    assert len(made) == 1
