# The control plane behind a web server, and (target `agent`) the agent; compose.yaml runs both. docs/operations.md,
# "In a container", explains it.

# Debian's and Python's security fixes arrive under the same tag. CI asks for the tag's digest and builds from that; with
# a digest here, Dependabot proposes each new one.
FROM python:3.11-slim-trixie AS base

FROM base AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
COPY requirements/container.txt requirements/
RUN python -m venv /venv && \
    /venv/bin/python -m pip install --only-binary=:all: --require-hashes -r requirements/container.txt
COPY . .
# The key is not used: this only collects files. Bytecode is compiled here, because the file system is read-only later.
RUN STAGE=local SECRET_KEY=none /venv/bin/python manage.py collectstatic --noinput && /venv/bin/python -m compileall -q /app
# The directory for the key and the logs, without KMS and S3.
RUN install --directory --owner=10001 --group=10001 /data

FROM base AS agent
# The agent needs git. Build an image from this one with the programs that your jobs call.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates git && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY agent agent
RUN install --directory --owner=10001 --group=10001 /data
ENV HOME=/data HYBRID_CI_STATE_DIR=/data PYTHONUNBUFFERED=1
USER 10001:10001
CMD ["python", "-m", "agent"]

FROM base AS control-plane
WORKDIR /app
COPY --from=build /venv /venv
COPY --from=build /app /app
COPY --from=build --chown=10001:10001 /data /data
# gunicorn reads PORT, WEB_CONCURRENCY (processes) and GUNICORN_CMD_ARGS.
ENV PATH=/venv/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PORT=8000 WEB_CONCURRENCY=2 \
    KEY_FILE=/data/sealing.key LOG_DIR=/data/logs ARTIFACT_DIR=/data/artifacts
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["python", "-m", "controlplane.http.health_probe"]
# A stop waits for active requests. Workers write their heartbeats to memory, because the root may be read-only.
CMD ["gunicorn", "controlplane.wsgi:application", "--worker-class", "gthread", "--threads", "8", "--graceful-timeout", "20", "--worker-tmp-dir", "/dev/shm", "--no-control-socket"]
