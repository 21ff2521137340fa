"""What jobs of a run hand to each other, on the whole product: artifacts, caches, outputs, and further jobs."""

import json
import sys
from typing import Any

from tests.endtoend.conftest import Product, Repository, wait_for

# Prints the subject of the token on standard input.
SUBJECT = """import base64, json, sys
body = sys.stdin.read().split(".")[1]
print("subject", json.loads(base64.urlsafe_b64decode(body + "=="))["sub"])
"""
FILE = f"""
jobs:
  build:
    outputs: [version]
    artifacts: {{paths: dist}}
    caches: [{{key: "c-${{{{ hashFiles('word') }}}}", paths: .cache}}]
    steps:
      - run: mkdir -p dist .cache; cat .cache/file || echo cached > .cache/file
      - run: echo built > dist/out; ln -s out dist/link; chmod 750 dist/out; echo version=1.2 >> $HYBRID_CI_OUTPUT
  test:
    needs: [build]
    env: {{VERSION: '${{{{ needs.build.outputs.version }}}}', SUBJECT: {json.dumps(SUBJECT)}}}
    artifacts: {{from: build}}
    steps:
      - run: echo "version $VERSION $(cat dist/link) $(stat -c %a dist/out)"
      - run: |
          cat > more.yml <<'END'
          jobs: {{more: {{needs: [build], artifacts: {{from: build}}, steps: [{{run: cat dist/out}}]}}}}
          END
          "{sys.executable}" "$HYBRID_CI_AGENT" upload more.yml
      - run: |
          "{sys.executable}" "$HYBRID_CI_AGENT" token --audience aws | "{sys.executable}" -c "$SUBJECT"
"""


def run_logs(product: Product) -> tuple[str, dict[str, str]]:
    """Run the graph. Returns the id of the run, and the log of each of its jobs."""
    run_id = product.client.post("/runs", json={"git_ref": "main", "reuse": False}).json()["run_id"]

    def ended() -> dict[str, Any] | None:
        run: dict[str, Any] = product.client.get(f"/runs/{run_id}").json()
        return run if run["status"] in ("completed", "failed", "cancelled") else None

    run = wait_for(ended, seconds=60)
    logs = {job["name"]: product.log(job["job_id"]).decode() for job in run["jobs"]}
    assert run["status"] == "completed", logs
    return run_id, logs


def test_jobs_of_a_run_hand_on_files_and_values_and_add_jobs(product: Product, repository: Repository) -> None:
    repository.commit(word="x", **{"__hybrid-ci__yml": FILE})
    product.pipeline(repository.url)
    agent = product.start_agent("one", "--slots", "2")
    run_id, first = run_logs(product)
    assert "version 1.2 built 750" in first["test"]
    assert "added to the run: more" in first["test"]
    assert "subject pipeline:self:ref:refs/heads/main\n" in first["test"]
    assert "\nbuilt\n" in first["more"]
    assert ": there is none yet" in first["build"]
    (artifact,) = product.client.get(f"/runs/{run_id}/artifacts").json()["artifacts"]
    assert (artifact["node"], artifact["files"]) == ("build", 2)
    _, second = run_logs(product)
    assert ": restored, 1 file, 7 bytes, in " in second["build"]
    assert "Signature" not in agent.log.read_text()
