"""Notifications through Apprise, to the addresses that `params.yaml` and the environment name.

`python -m ganpipe.services.notifications` sends one message: a process of its own, so that a service that is slow or
fails neither delays nor ends a run. It gets the addresses on standard input, because every user of the machine can read
a command line.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ganpipe.compute.processes import SAFE_PATH
from ganpipe.errors import GanpipeError, first_line, redact
from ganpipe.files import escape_control
from ganpipe.settings.notifications import URLS_VARIABLE
from ganpipe.settings.schema import Event
from ganpipe.stores.workspace import Workspace

log = logging.getLogger(__name__)

WAIT_S = 3.0  # a run is delayed no longer; the message is still on its way then
TEST_WAIT_S = 60.0


@dataclass(frozen=True)
class Notification:
    """One sentence about `subject`, such as a dataset; sent if one of its events is wanted."""

    events: tuple[Event, ...]
    subject: str
    sentence: str
    picture: str | None = None
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class Delivery:
    """Whether one service has taken a message. `service`: its name, such as Discord; never its address."""

    service: str
    delivered: bool


@dataclass(frozen=True)
class _Message:
    urls: list[str]
    title: str
    body: str
    picture: str | None


def notify(workspace: Workspace, notification: Notification, wait_s: float = WAIT_S) -> None:
    """Sends a notification if somebody wants it. Never fails; what goes wrong is logged."""
    try:
        settings = workspace.params().notify
        if not settings.urls or not {*notification.events} & {*settings.events.split("+")}:
            return
        message = _message(workspace, notification, settings.urls.split())
        lost = [d.service for d in _send(message, wait_s) or [] if not d.delivered]
        if lost:
            log.warning(f"The notification was not delivered to {', '.join(lost)}.")
    except Exception as error:  # a notification must not end the run that it tells of
        log.warning(f"The notification could not be sent: {redact(first_line(error))}")


def send_test(workspace: Workspace) -> list[Delivery]:
    """Sends a test message to every address and says what became of it.

    Raises:
        GanpipeError: there is no address, or one that Apprise does not know.
    """
    urls = check_urls(workspace)
    if not urls:
        raise GanpipeError(
            f"No address is named: set notify.urls in {workspace.params_file}, or the variable {URLS_VARIABLE}."
        )
    message = _message(
        workspace, Notification((), "test", "This is a test of `ganpipe notify --test`."), urls
    )
    deliveries = _send(message, TEST_WAIT_S)
    if deliveries is None:
        raise GanpipeError(f"The test message was not delivered in {TEST_WAIT_S:.0f} s.")
    return deliveries


def check_urls(workspace: Workspace) -> list[str]:
    """The addresses of the settings and of the environment.

    Raises:
        GanpipeError: Apprise does not know one; the sentence counts it and does not show it.
    """
    urls = workspace.params().notify.urls.split()
    if urls:
        for number, service in enumerate(service_names(urls), 1):
            if service is None:
                raise GanpipeError(
                    f"Address {number} of {len(urls)} for notifications (notify.urls, {URLS_VARIABLE}) is none that Apprise "
                    "knows; it looks like discord://ID/TOKEN or mailto://USER:PASSWORD@HOST (github.com/caronc/apprise)."
                )
    return urls


def service_names(urls: Sequence[str]) -> list[str | None]:
    """The service behind each address, as Apprise calls it; None if it knows none."""
    from apprise import Apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its messages quote addresses
    services = [Apprise.instantiate(url) for url in urls]
    return [None if service is None else str(service.service_name) for service in services]


def _message(workspace: Workspace, notification: Notification, urls: list[str]) -> _Message:
    title = f"ganpipe in {workspace.root.name}: {notification.subject}"
    body = "\n".join([notification.sentence, *notification.links])
    picture = notification.picture
    return _Message(
        urls,
        escape_control(redact(title)),
        "\n".join(escape_control(line) for line in redact(body).split("\n")),
        picture if picture and Path(picture).is_file() else None,
    )


def _send(message: _Message, wait_s: float) -> list[Delivery] | None:
    """Starts the sender; None if it is still at work after `wait_s`."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        env=os.environ | SAFE_PATH,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is not meant for it
    )
    try:
        answer, _ = process.communicate(json.dumps(asdict(message)).encode(), timeout=wait_s)
    except subprocess.TimeoutExpired:
        return None
    if process.returncode:
        raise GanpipeError(f"the sender ended with exit code {process.returncode}.")
    return [Delivery(**entry) for entry in json.loads(answer)]


def _main() -> None:
    message = _Message(**json.load(sys.stdin))
    with ThreadPoolExecutor(max_workers=16) as threads:
        deliveries = list(threads.map(lambda url: _deliver(url, message), message.urls))
    with suppress(BrokenPipeError):  # nobody waits any more
        print(json.dumps([asdict(delivery) for delivery in deliveries]), flush=True)
    os._exit(0)


def _deliver(url: str, message: _Message) -> Delivery:
    """Sends to one address; without the picture if the service refuses it."""
    from apprise import Apprise, AppriseAsset, PersistentStoreMode

    # Apprise would keep what it has learnt of a service in the home folder.
    asset = AppriseAsset(app_id="ganpipe", storage_mode=PersistentStoreMode.MEMORY)
    service = Apprise.instantiate(url, asset=asset)
    if service is None:
        return Delivery("an unknown service", False)
    try:
        sent = bool(service.notify(title=message.title, body=message.body, attach=message.picture))
        if not sent and message.picture:
            sent = bool(service.notify(title=message.title, body=message.body))
    except Exception:  # plugins raise what their libraries raise
        sent = False
    return Delivery(str(service.service_name), sent)


if __name__ == "__main__":
    _main()
