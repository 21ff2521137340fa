"""The WSGI application that every server of the control plane runs."""

import os

from django.core.wsgi import get_wsgi_application

from controlplane.checks import settings_require_safe

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

application = get_wsgi_application()
settings_require_safe()
