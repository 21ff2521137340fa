"""The WSGI application that every server of the control plane runs."""

import os

from django.core.wsgi import get_wsgi_application

from controlplane.checks import settings_require_safe
from controlplane.http.wsgi_request import Utf8Request

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

application = get_wsgi_application()
application.request_class = Utf8Request
settings_require_safe()
