"""The settings, all from the environment. `.env.example` lists each one."""

from pathlib import Path

import environ

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()

# local, staging or production. It is part of every table's name.
STAGE = env.str("STAGE", default="local")
VERSION = "0.1.0"
DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="")
# Keys that signed before, or will sign next: what they signed is accepted. See docs/operations.md, "Changing the key".
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1"])
# The control plane's address, the issuer of jobs' identity tokens. Empty: the address of each request, which an exposed
# stage allows only below AWS's own address.
PUBLIC_URL = env.str("PUBLIC_URL", default="").rstrip("/")
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
# Networks of reverse proxies whose X-Forwarded-For names the client, such as 172.18.0.1/32. On Lambda the gateway's
# event names it.
TRUSTED_PROXIES = env.list("TRUSTED_PROXIES", default=[])

# botocore itself reads AWS_ENDPOINT_URL and the credentials.
AWS_REGION = env.str("AWS_REGION", default="eu-central-1")

# The next four matter only to the machine that deploys a stage. How the stage's tables are billed: on-demand, or
# provisioned for those that are busy all day. Empty: as they are, or as controlplane/infrastructure/stages.py says.
DYNAMODB_BILLING = env.str("DYNAMODB_BILLING", default="")
# The US dollars a month at which AWS warns the address for alarms. None: as it is.
BUDGET_DOLLARS = env.int("BUDGET_DOLLARS", default=None)
# So many processes of the function are kept ready. Each one costs money while it waits.
PROVISIONED_CONCURRENCY = env.int("PROVISIONED_CONCURRENCY", default=0)
# Whether X-Ray traces the function.
XRAY_TRACING = env.bool("XRAY_TRACING", default=False)

# The file of the key that encrypts agents' keys, on a single machine.
KEY_FILE = env.path("KEY_FILE", default=BASE_DIR / ".local" / "sealing.key")
# The KMS key that is used instead of that file: its id, ARN or alias.
KMS_KEY_ID = env.str("KMS_KEY_ID", default="")
# The RSA keys of KMS that sign, instead of files beside KEY_FILE: the first one signs, the others verify.
SIGNING_KEY_IDS = env.list("SIGNING_KEY_IDS", default=[])
# The directory of archived logs, on a single machine.
LOG_DIR = env.path("LOG_DIR", default=BASE_DIR / ".local" / "logs")
# The S3 bucket that is used instead of that directory.
LOG_BUCKET = env.str("LOG_BUCKET", default="")
# The directory of artifacts and caches, on a single machine, and the S3 bucket that is used instead of it.
ARTIFACT_DIR = env.path("ARTIFACT_DIR", default=BASE_DIR / ".local" / "artifacts")
ARTIFACT_BUCKET = env.str("ARTIFACT_BUCKET", default="")
# The most megabytes (of 1,000,000 bytes) of an artifact or a cache, and of all caches of a pipeline.
ARTIFACT_LIMIT_MB = env.int("ARTIFACT_LIMIT_MB", default=5_000)
CACHE_QUOTA_MB = env.int("CACHE_QUOTA_MB", default=10_000)
# The most megabytes (of 1,000,000 bytes, before compression) of output that are kept of each attempt of a job. Of what
# exceeds them, the agent leaves out the middle.
ATTEMPT_LOG_LIMIT_MB = env.int("ATTEMPT_LOG_LIMIT_MB", default=100)
# The pipeline of a `POST /jobs` that names none.
DEFAULT_PIPELINE = env.str("DEFAULT_PIPELINE", default="default")
# Patterns of the repositories that pipelines may build: github.com/acme/*. Empty: all. See docs/operations.md.
ALLOWED_REPOSITORIES = env.list("ALLOWED_REPOSITORIES", default=[])
# Where the audit trail is sent to continuously: a bucket of S3, and the https address of a webhook with the secret
# (whsec_…) by which its messages are signed. AUDIT_EXPORT_SCHEMA: native or ocsf, for the webhook.
AUDIT_EXPORT_BUCKET = env.str("AUDIT_EXPORT_BUCKET", default="")
AUDIT_EXPORT_URL = env.str("AUDIT_EXPORT_URL", default="")
AUDIT_EXPORT_SECRET = env.str("AUDIT_EXPORT_SECRET", default="")
AUDIT_EXPORT_SCHEMA = env.str("AUDIT_EXPORT_SCHEMA", default="native")
# After how many days audit events expire, by the beginning of their action: user.sign_in_failed=90,job.=400. The
# longest beginning counts. Events without one are kept for ever, and so are those about the trail itself.
AUDIT_RETENTION = env.dict("AUDIT_RETENTION", default={})
# The server that sends e-mail, such as smtp+tls://user:password@smtp.example.com:587 (django-environ's form), and the
# sender. Without a server there are no notifications by e-mail.
EMAIL_URL = env.str("EMAIL_URL", default="")
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default="hybrid-ci@localhost")
EMAIL_TIMEOUT = 5
if EMAIL_URL:
    vars().update(env.email_url_config(EMAIL_URL))
# Networks, besides public addresses, that webhooks may reach, such as 10.1.2.0/24.
OUTGOING_NETWORKS = env.list("OUTGOING_NETWORKS", default=[])
# The servers that rotations of secrets may call, besides AWS and GitHub: vault.example.com, db.example.com:5432, or
# http://127.0.0.1:8200 for one without TLS. They may have private addresses.
ROTATION_HOSTS = env.list("ROTATION_HOSTS", default=[])
# Rotators and targets of your own by their names: my-database=acme.rotation.MyDatabase. See docs/rotation.md.
ROTATORS = env.dict("ROTATORS", default={})
ROTATION_TARGETS = env.dict("ROTATION_TARGETS", default={})
# Seconds between two polls of an agent without work. Each poll costs two calls to DynamoDB. At most 20, because an
# agent counts as lost after 45 s without a heartbeat.
AGENT_CHECK_SECONDS = env.int("AGENT_CHECK_SECONDS", default=15)

INSTALLED_APPS = [
    "controlplane.apps.AuthConfig",
    "controlplane.apps.ContentTypesConfig",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "corsheaders",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "controlplane",
    "controlplane.nosql.admin",
    "apps.audit",
    "apps.accounts",
    "apps.agents",
    "apps.pipelines",
    "apps.secrets",
    "apps.notifications",
    "apps.sources",
    "apps.jobs",
    "apps.dashboard",
]

MIDDLEWARE = [
    # Outermost, so that it observes every request.
    "controlplane.observability.middleware.ObservabilityMiddleware",
    # Next, so that the frontend can also read errors.
    "corsheaders.middleware.CorsMiddleware",
    "controlplane.http.content_policy.ContentPolicyMiddleware",
    "controlplane.http.problems.ProblemMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "controlplane.http.static_files.StaticFilesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "controlplane.http.lazy_middleware.UserMiddleware",
    "controlplane.http.lazy_middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "controlplane.urls"
WSGI_APPLICATION = "controlplane.wsgi.application"
# Origins (scheme and host) whose pages may call the API from a browser, with cookies. Our own pages do not need it.
CORS_ALLOWED_ORIGINS = env.list("CORS_ALLOWED_ORIGINS", default=[])
CORS_ALLOW_CREDENTIALS = True
CORS_URLS_REGEX = r"^/(?!account/|admin/|dashboard/|oauth/|signin|signout)"
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "if-none-match",
    "if-range",
    "range",
    "x-csrftoken",
]
CORS_EXPOSE_HEADERS = [
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "Date",
    "ETag",
    "Link",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-Export-Until",
    "X-Log-Complete",
    "X-Next-Offset",
    "X-Offset",
    "X-Request-Id",
]

# API paths have no trailing slash.
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "apps.accounts.authentication.permissions_context",
            ],
        },
    },
]

# There is no relational database. This backend refuses SQL with an error that says so.
DATABASES = {"default": {"ENGINE": "controlplane.nosql.backend"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# No app has migrations, because no data is in SQL.
MIGRATION_MODULES = dict.fromkeys(
    ["auth", "contenttypes", "controlplane", "audit", "accounts", "agents", "pipelines", "jobs", "dashboard"]
)

# A Django facade has the name of its record.
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["apps.accounts.authentication.PasswordBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
# Names, since below a gateway's own address each path begins with the stage.
LOGIN_URL = "signin"
LOGIN_REDIRECT_URL = "dashboard:overview"

# Who may sign in with Google or GitHub, and with which role. All empty: no user can.
# An e-mail address that the provider has verified: ada@example.com=admin
ALLOWED_ADDRESSES = {name.lower(): role for name, role in env.dict("ALLOWED_ADDRESSES", default={}).items()}
# Members of these GitHub organisations, by login or number: acme=operator
ALLOWED_GITHUB_ORGS = {name.lower(): role for name, role in env.dict("ALLOWED_GITHUB_ORGS", default={}).items()}
# Users whose address has exactly this domain: example.com=viewer
ALLOWED_DOMAINS = {name.lower(): role for name, role in env.dict("ALLOWED_DOMAINS", default={}).items()}
GOOGLE_CLIENT_ID = env.str("GOOGLE_CLIENT_ID", default="")
GOOGLE_CLIENT_SECRET = env.str("GOOGLE_CLIENT_SECRET", default="")
GITHUB_CLIENT_ID = env.str("GITHUB_CLIENT_ID", default="")
GITHUB_CLIENT_SECRET = env.str("GITHUB_CLIENT_SECRET", default="")
# The providers' addresses. GitHub Enterprise has others.
GOOGLE_ACCOUNTS_URL = env.str("GOOGLE_ACCOUNTS_URL", default="https://accounts.google.com")
GOOGLE_TOKEN_URL = env.str("GOOGLE_TOKEN_URL", default="https://oauth2.googleapis.com")
GOOGLE_USERINFO_URL = env.str("GOOGLE_USERINFO_URL", default="https://openidconnect.googleapis.com")
GITHUB_URL = env.str("GITHUB_URL", default="https://github.com")
GITHUB_API_URL = env.str("GITHUB_API_URL", default="https://api.github.com")
# Sign-in with e-mail address and password. Without a provider it is the only way.
PASSWORD_SIGN_IN = env.bool(
    "PASSWORD_SIGN_IN",
    default=not ((GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET) or (GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET)),
)

# The rate limits of sign-in: failed passwords per address and per account in SIGN_IN_WINDOW_SECONDS. The other limits
# are multiples of them: docs/operations.md.
SIGN_IN_WINDOW_SECONDS = env.int("SIGN_IN_WINDOW_SECONDS", default=15 * 60)
SIGN_IN_ATTEMPTS_PER_ADDRESS = env.int("SIGN_IN_ATTEMPTS_PER_ADDRESS", default=50)
SIGN_IN_ATTEMPTS_PER_ACCOUNT = env.int("SIGN_IN_ATTEMPTS_PER_ACCOUNT", default=10)
# The rate limit of one API token, or of one session as a bearer.
API_CALLS_PER_MINUTE = env.int("API_CALLS_PER_MINUTE", default=3000)

# A cache of some seconds per process. Processes share nothing, and nothing may depend on it.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 10_000},
    }
}

SESSION_ENGINE = "apps.accounts.session_store"
# dynamodb; or memory, for development: other processes do not see these sessions, and they end with the process.
SESSION_STORE = env.str("SESSION_STORE", default="dynamodb")
# The settings of django-dynamodb-sessions keep their names. `controlplane.checks` refuses values that cannot be obeyed,
# and docs/decisions/0007 says why.
DYNAMODB_SESSIONS_TABLE_NAME = env.str("DYNAMODB_SESSIONS_TABLE_NAME", default="") or f"hybrid-ci-cd-sessions-{STAGE}"
DYNAMODB_SESSIONS_TABLE_HASH_ATTRIB_NAME = env.str("DYNAMODB_SESSIONS_TABLE_HASH_ATTRIB_NAME", default="session_id")
DYNAMODB_SESSIONS_ALWAYS_CONSISTENT = env.bool("DYNAMODB_SESSIONS_ALWAYS_CONSISTENT", default=True)
DYNAMODB_SESSIONS_AWS_REGION_NAME = env.str("DYNAMODB_SESSIONS_AWS_REGION_NAME", default="")
DYNAMODB_SESSIONS_AWS_ACCESS_KEY_ID = env.str("DYNAMODB_SESSIONS_AWS_ACCESS_KEY_ID", default="")
DYNAMODB_SESSIONS_AWS_SECRET_ACCESS_KEY = env.str("DYNAMODB_SESSIONS_AWS_SECRET_ACCESS_KEY", default="")
# Seconds from sign-in until every session ends.
SESSION_COOKIE_AGE = env.int("SESSION_COOKIE_AGE", default=12 * 60 * 60)
# Seconds from the last request until an unused session ends.
SESSION_IDLE_SECONDS = env.int("SESSION_IDLE_SECONDS", default=60 * 60)
SESSION_COOKIE_HTTPONLY = True
# The header in which a network in front sends the client's country or region, such as CloudFront-Viewer-Country.
# It is shown among a user's devices. Leave it empty unless the network replaces the value that a client sends.
CLIENT_REGION_HEADER = env.str("CLIENT_REGION_HEADER", default="")
SESSION_COOKIE_SAMESITE = "Lax"
# Only a server on this machine may be reached without TLS.
_TLS = STAGE not in ("local", "test")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _TLS
SECURE_SSL_REDIRECT = _TLS
# Load balancers check health without TLS.
SECURE_REDIRECT_EXEMPT = [r"^health(/ready)?$"]
# API Gateway sets X-Forwarded-Proto itself. A client that reaches us without the gateway can set it, but deceives only
# itself: it is not redirected, and its own cookies go where it sent them.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _TLS else None
SECURE_HSTS_SECONDS = 365 * 24 * 60 * 60 if _TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = _TLS
# HSTS preload is silenced, because it is a promise for a whole domain.
SILENCED_SYSTEM_CHECKS = ["security.W021"]
CSRF_FAILURE_VIEW = "controlplane.http.views.csrf_failure"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Without collected files (on a laptop, in tests) they are served from their source directories, also after an edit.
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = not STATIC_ROOT.is_dir()

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "controlplane.http.static_storage.StageStaticFilesStorage"},
    "logs": {
        "BACKEND": "controlplane.lib.object_storage.ObjectStorage",
        "OPTIONS": {"bucket_name": LOG_BUCKET},
    }
    if LOG_BUCKET
    else {
        "BACKEND": "controlplane.lib.file_storage.FileStorage",
        "OPTIONS": {"location": LOG_DIR},
    },
    # Names in it begin with audit-seals/.
    "seals": {
        "BACKEND": "controlplane.lib.object_storage.ObjectStorage",
        "OPTIONS": {"bucket_name": LOG_BUCKET},
    }
    if LOG_BUCKET
    else {
        "BACKEND": "controlplane.lib.file_storage.FileStorage",
        "OPTIONS": {"location": Path(str(LOG_DIR)).parent},
    },
    "artifacts": {
        "BACKEND": "controlplane.lib.presigned_objects.PresignedObjects",
        "OPTIONS": {"bucket_name": ARTIFACT_BUCKET},
    }
    if ARTIFACT_BUCKET
    else {
        "BACKEND": "controlplane.lib.presigned_files.PresignedFiles",
        "OPTIONS": {"location": ARTIFACT_DIR},
    },
}

# The largest body that an endpoint reads at once, in bytes: that of a test report. Each view has a limit of its own,
# which `controlplane.http.body_limits` checks first.
DATA_UPLOAD_MAX_MEMORY_SIZE = 4_000_000

# What records that a request of someone who is signed in was refused. It is imported at the first refusal.
REFUSAL_RECORDER = "apps.audit.services.refusals.refusal_record"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.accounts.authentication.BearerAuthentication",
        "apps.accounts.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["controlplane.http.requests.JsonParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "controlplane.http.openapi.Schema",
    "EXCEPTION_HANDLER": "controlplane.http.drf_problems.problem_for_exception",
    "UNAUTHENTICATED_USER": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Hybrid CI/CD control plane",
    "DESCRIPTION": "Queue jobs, watch them, and let agents on your own machines run them.",
    "VERSION": VERSION,
    # From 3.1 on, schemas are JSON Schema, so that answers can be checked against them.
    "OAS_VERSION": "3.1.0",
    # Requests have rules that responses lack, such as that a text must not be empty.
    "COMPONENT_SPLIT_REQUEST": True,
    # The values are self-explanatory.
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": ["controlplane.http.openapi.common_parts_add"],
}

# Only Lambda sets this variable.
_ON_LAMBDA = "AWS_LAMBDA_FUNCTION_NAME" in env.ENVIRON
LOG_LEVEL = env.str("LOG_LEVEL", default="WARNING")
# json: one object per line, for machines to search; or text, for people.
LOG_FORMAT = env.str("LOG_FORMAT", default="") or ("json" if _ON_LAMBDA else "text")
# Whether to print metrics in the embedded metric format, which CloudWatch reads from a function's log.
METRICS_EMF = env.bool("METRICS_EMF", default=_ON_LAMBDA)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {"()": "controlplane.observability.logs.JsonFormatter"},
        "text": {
            "()": "controlplane.observability.logs.TextFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
        },
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    # At DEBUG, libraries log what they send, also keys.
    "root": {"handlers": ["stderr"], "level": "INFO" if LOG_LEVEL == "DEBUG" else LOG_LEVEL},
    "loggers": {
        # Our own level, because Zappa's handler changes the root's.
        "apps": {"level": LOG_LEVEL},
        "controlplane": {"level": LOG_LEVEL},
        # These log in each process which endpoint and credentials they found.
        "botocore": {"level": "WARNING"},
        "pynamodb": {"level": "WARNING"},
        # The middleware writes one line about the end of each request, and its cause.
        "django.request": {"level": "CRITICAL"},
        # A refused host or form is the client's mistake. Otherwise strangers could fill the log with tracebacks.
        "django.security": {"level": "CRITICAL"},
    },
}
