"""Makes each command of Zappa right for a stage, or stops it before it changes anything.

Zappa reads neither `.env.<stage>` nor knows releases. So each command begins here: the settings are read and checked,
and the command is replaced or extended where Zappa's own would do something else than its name says. docs/operations.md
has the table of the commands.
"""

import atexit
import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import botocore.session
from click import ClickException

from controlplane.deployment import steps
from controlplane.deployment.found import Found, stage_found
from controlplane.deployment.function_settings import stack_use
from controlplane.deployment.live import Live
from controlplane.deployment.releases import Release
from controlplane.deployment.revision import revision_describe
from controlplane.deployment.stage_file import region_require, stage_file_read
from controlplane.deployment.zappa_live import alias_use
from controlplane.infrastructure.clients import Account
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.stages import STAGES
from controlplane.infrastructure.zappa_parts import zappa_complete
from controlplane.lib.command_names import command_instead

# Errors whose message is for people. Of others, the log with the traceback is printed, too.
_SENTENCES = frozenset({"ApplicationError", "CommandError"})
_USE_STAGE = "Name one stage: zappa {command} staging, or zappa {command} production."


def command_prepare(zappa: Any) -> None:
    """Prepare a command of Zappa; `zappa` is its command line. Raises SystemExit with a sentence to stop it."""
    try:
        _prepare(zappa)
    except InfrastructureError as error:
        raise SystemExit(str(error)) from None


def _prepare(zappa: Any) -> None:
    if zappa.api_stage not in STAGES:
        raise InfrastructureError(_USE_STAGE.format(command=zappa.command))
    # Without it, Zappa takes a program that it started from a path for one outside a virtual environment.
    os.environ.setdefault("VIRTUAL_ENV", sys.prefix)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    if not zappa.load_credentials:
        return
    stage_file_read(zappa.api_stage)
    _descriptions_share(zappa.zappa.boto_session)
    region = region_require(zappa.api_stage)
    account = Account(region)
    # Zappa has made its clients before it called us, for the region of its settings file, which names none.
    zappa.override_stage_config_setting("aws_region", region)
    zappa.load_settings(zappa.vargs.get("settings_file"))
    alias_use(zappa)
    zappa_complete(zappa)
    command = _Command(zappa, account)
    prepare = getattr(command, zappa.command, None)
    if prepare is not None:
        prepare()


def _descriptions_share(session: Any) -> None:
    """Let what boto3's `session` has read of AWS's services, megabytes of JSON, serve the sessions after it, too."""
    loader = session._session.get_component("data_loader")
    botocore.session.create_loader = lambda *_: loader


class _Command:
    """A command of Zappa for one stage. Each method is named as the command that it prepares.

    The methods raise InfrastructureError when the command must not begin.
    """

    def __init__(self, zappa: Any, account: Account) -> None:
        self.zappa = zappa
        self.account = account
        self.stage: str = zappa.api_stage
        self.region = account.region
        self._schedule: Callable[[], None] = zappa.schedule

    # --- commands that change what runs ---------------------------------------------------------------------------

    def deploy(self) -> None:
        """Check everything first; at the end, request what every deployment must answer."""
        if steps.UPLOADS_ONLY not in os.environ:
            self._upload_check()
            found = self._found()
            if found.complete:
                raise InfrastructureError(f"{self.stage} is deployed already. Type: zappa update {self.stage}")
            if found.function or found.address:
                found.require()
            self._infrastructure_check()
        self._upload(self._deployed)

    def update(self) -> None:
        """Check everything first; at the end, make the upload live as `manage.py deploy` does."""
        # The version that is live may not have the functions of new rules.
        self.zappa.schedule = _nothing
        if steps.UPLOADS_ONLY not in os.environ:
            self._upload_check()
            self._found().require()
            if Live(self.stage, self.account).state().candidate is not None:
                raise InfrastructureError(
                    f"A release of {self.stage} is under way. To end it, type: "
                    f"manage.py release rollback --stage {self.stage}"
                )
            self._infrastructure_check()
            steps.watch_require(self.stage, self.account)
        self._upload(self._updated)

    def rollback(self) -> None:
        """Do what `manage.py release rollback` does."""
        if self.zappa.vargs["num_rollback"] != 1:
            raise InfrastructureError(
                "A rollback goes one version back. For another one, type: "
                f"manage.py release shift --stage {self.stage} --to VERSION"
            )
        self._found().require()

        def rollback(_versions_back: int) -> None:
            try:
                self._say(str(Live(self.stage, self.account).go_back()))
            except InfrastructureError as error:
                raise SystemExit(str(error)) from None

        self.zappa.rollback = rollback

    def undeploy(self) -> None:
        """Remove the function and its API, and say what is kept."""
        if self.zappa.vargs["remove_logs"]:
            raise InfrastructureError(
                f"The log group belongs to the stack. Leave --remove-logs out: zappa undeploy {self.stage}"
            )
        found = self._found()
        if not (found.function or found.address):
            raise InfrastructureError(f"{self.stage} is not deployed in {self.region}: there is nothing to undeploy.")
        original = self.zappa.undeploy

        def undeploy(**options: Any) -> None:
            original(**options)
            if not self._found().function:
                self._say(f"Tables, logs and the key are kept. To deploy again, type: zappa deploy {self.stage}")

        self.zappa.undeploy = undeploy

    # --- commands that show or run something ----------------------------------------------------------------------

    def status(self) -> None:
        """Add to Zappa's table, which describes the last upload, which version is live."""
        self._found().require()
        original = self.zappa.status

        def status(return_json: bool = False) -> None:
            original(return_json=return_json)
            if not return_json:
                self._say(str(Live(self.stage, self.account).state()))

        self.zappa.status = status

    def tail(self) -> None:
        """Zappa's own, if there is a function."""
        self._found().require()

    def invoke(self) -> None:
        """Zappa's own, if there is a function."""
        self._found().require()

    def manage(self) -> None:
        """Run a command in the function. A secret comes in the answer, which no log has."""
        text = " ".join(self.zappa.vargs["command_rest"])
        instead = command_instead(text.split(" ")[0])
        if instead is not None:
            raise InfrastructureError(instead)
        self._found().require()
        core, original = self.zappa.zappa, self.zappa.invoke
        answers: list[Any] = []
        send = core.invoke_lambda_function

        def send_and_keep(*arguments: Any, **named: Any) -> Any:
            answer = send(*arguments, **named)
            answers.append(json.loads(answer["Payload"].read() or b"null"))
            return answer

        def invoke(*arguments: Any, **named: Any) -> None:
            log = StringIO()
            try:
                with redirect_stdout(log):
                    original(*arguments, **named)
            except ClickException:
                answer = answers[-1] or {}
                if answer.get("errorType") not in _SENTENCES:
                    sys.stdout.write(log.getvalue())
                raise SystemExit(f"{text} failed: {answer.get('errorMessage', 'its log says why.')}") from None
            sys.stdout.write(log.getvalue())
            if "output" in (answers[-1] or {}):
                sys.stdout.write(answers[-1]["output"])

        core.invoke_lambda_function = send_and_keep
        self.zappa.invoke = invoke

    def certify(self) -> None:
        """Zappa supports only REST APIs here."""
        raise InfrastructureError(
            "zappa certify serves no HTTP API. docs/operations.md, 'A domain of its own', has the commands to type."
        )

    # --- parts ----------------------------------------------------------------------------------------------------

    def _found(self) -> Found:
        return stage_found(self.stage, self.account)

    def _upload_check(self) -> None:
        if self.zappa.vargs["docker_image_uri"]:
            raise InfrastructureError(f"The function is a zip. Type: zappa {self.zappa.command} {self.stage}")
        steps.settings_require(self.stage, os.environ)
        steps.watch_seconds(os.environ)
        steps.secrets_require(self.stage, self.account, os.environ)
        self._say(f"{self.stage} in {self.region}, account {self.account.number}, as {self.account.principal}")

    def _infrastructure_check(self) -> None:
        if not steps.infrastructure_is_current(self.stage):
            raise InfrastructureError(
                f"The infrastructure of {self.stage} in {self.region} is not there or not up to date. "
                f"Type: manage.py infrastructure deploy --stage {self.stage}"
            )

    def _upload(self, finish: Callable[[], None]) -> None:
        """Let Zappa upload with the stack's bucket and settings, and call `finish` before it prints its last line."""
        stack_use(self.zappa, self.account)
        callback = self.zappa.callback

        def callback_and_finish(position: str) -> None:
            callback(position)
            if position == "post":
                if steps.UPLOADS_ONLY in os.environ:
                    self._say("Uploaded. manage.py deploy goes on.")
                    raise SystemExit(0)
                finish()

        self.zappa.callback = callback_and_finish
        self._explain_errors()
        _leftovers_remove_at_exit(self.zappa.lambda_name)

    def _deployed(self) -> None:
        try:
            self._release().first_check(version=None if self.zappa.vargs["zip"] else steps.product_version())
        except InfrastructureError as error:
            raise SystemExit(f"deployed, but it does not work: {error}\n{self._what_next()}") from None
        self._say(f"To add the alarms of its API, type: manage.py infrastructure deploy --stage {self.stage}")

    def _updated(self) -> None:
        try:
            source = self.zappa.vargs["zip"]
            if source:
                self._release().publish(Path(source).name, version=None)
            else:
                version = steps.product_version()
                self._release().publish(revision_describe(version), version=version)
        except InfrastructureError as error:
            raise SystemExit(f"uploaded, not live: {error}") from None
        self._schedule()

    def _release(self) -> Release:
        address, seconds = os.environ.get("STAGE_URL") or None, steps.watch_seconds(os.environ)
        return Release(self.stage, self.account, address, seconds, self._say)

    def _explain_errors(self) -> None:
        command: str = self.zappa.command
        original = getattr(self.zappa, command)

        def explained(*arguments: Any, **named: Any) -> Any:
            try:
                return original(*arguments, **named)
            except (Exception, KeyboardInterrupt) as error:
                reason = str(error).strip() or "Interrupted."
                raise SystemExit(f"zappa {command} {self.stage} failed: {reason}\n{self._what_next()}") from error

        setattr(self.zappa, command, explained)

    def _what_next(self) -> str:
        """What a failed upload has made, and the commands that go on with it or take it back."""
        try:
            found = self._found()
            if self.zappa.command == "update":
                live = Live(self.stage, self.account).state()
                return f"Nothing of it is live. {live} To go on, type: zappa update {self.stage}"
        except InfrastructureError as error:
            return f"What there is cannot be asked: {error} Type: zappa status {self.stage}"
        back = f"To take it back, type: zappa undeploy {self.stage}"
        if found.complete:
            return f"There is {found.made}. To go on, type: zappa update {self.stage}. {back}"
        if found.function or found.address:
            return f"There is {found.made}, and no more. {back}, then: zappa deploy {self.stage}. Data is kept."
        return f"Nothing of it was made. To try again, type: zappa deploy {self.stage}"

    def _say(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def _leftovers_remove_at_exit(function: str) -> None:
    """Remove at the end what Zappa leaves in its working directory when it is interrupted or fails."""
    patterns = (f"{function}-*.zip", f"{function}-template-*.json")
    before = {path for pattern in patterns for path in Path.cwd().glob(pattern)}

    def remove() -> None:
        for pattern in patterns:
            for path in set(Path.cwd().glob(pattern)) - before:
                path.unlink(missing_ok=True)

    atexit.register(remove)


def _nothing(*_arguments: Any, **_named: Any) -> None:
    pass
