"""Notifications arrive, tell no secret, and neither delay nor end what they tell of."""

from __future__ import annotations

import base64
import io
import json
import time
from pathlib import Path

import pytest
from PIL import Image

from ganpipe.cli import main
from ganpipe.errors import GanpipeError, redact
from ganpipe.services.notifications import Notification, check_urls, notify, send_test
from ganpipe.settings.notifications import URLS_VARIABLE
from ganpipe.stores.workspace import Workspace
from tests.conftest import noise_image
from tests.services.receiver import receiving

TOKEN = "s3cr3t-t0ken"
FAILED = Notification(
    ("failed",), "cats", "retrain failed: the disk is full.", None, ("Prefect: http://x/1",)
)


def named(workspace: Workspace, *lines: str) -> Workspace:
    """With these lines in the section `notify`."""
    workspace.params_file.write_text("\n".join(["notify:", *(f"  {line}" for line in lines)]) + "\n")
    return workspace


def test_a_message_has_the_sentence_the_links_and_the_picture(workspace: Workspace, tmp_path: Path) -> None:
    picture = tmp_path / "card.png"
    noise_image(1).save(picture)
    with receiving() as receiver:
        named(workspace, f"urls: [{receiver.url(TOKEN)}]")
        notify(
            workspace,
            Notification(("verdict",), "cats", "The verdict is poor.", str(picture), ("MLflow: u",)),
        )
        (message,) = receiver.wait()
    assert message["title"] == "ganpipe in workspace: cats"
    assert message["message"].splitlines() == ["The verdict is poor.", "MLflow: u"]
    (attached,) = message["attachments"]
    with Image.open(io.BytesIO(base64.b64decode(attached["base64"]))) as image:
        assert image.size == noise_image(1).size


def test_a_service_that_refuses_the_picture_gets_the_sentence(workspace: Workspace, tmp_path: Path) -> None:
    picture = tmp_path / "card.png"
    noise_image(1).save(picture)
    with receiving(refuses_pictures=True) as receiver:
        named(workspace, f"urls: {receiver.url()}")
        notify(workspace, Notification(("verdict",), "cats", "Poor.", str(picture)))
        (message,) = receiver.wait()
    assert (message["message"], message["attachments"]) == ("Poor.", [])


def test_only_the_events_that_are_wanted_are_sent_and_to_every_address(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as one, receiving() as other:
        monkeypatch.setenv(URLS_VARIABLE, other.url(TOKEN))
        named(workspace, f"urls: {one.url()}", "events: failed+promoted")
        notify(workspace, Notification(("verdict", "refused"), "cats", "Not wanted."))
        notify(workspace, Notification(("refused", "promoted"), "cats", "Wanted."))
        assert [m["message"] for m in one.wait()] == ["Wanted."]
        assert [m["message"] for m in other.wait()] == ["Wanted."]


@pytest.mark.parametrize("url", ["json://127.0.0.1:9/{}", "json://user:{}@127.0.0.1:9/x", "nonsense://{}"])
def test_a_service_that_is_away_is_logged_without_its_address(
    workspace: Workspace, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    named(workspace, f"urls: {url.format(TOKEN)}")
    notify(workspace, FAILED)
    assert "was not delivered" in caplog.text
    assert TOKEN not in caplog.text


def test_a_slow_service_delays_nothing_and_gets_the_message_all_the_same(workspace: Workspace) -> None:
    with receiving(answer_s=4.0) as receiver:
        named(workspace, f"urls: {receiver.url()}")
        started = time.monotonic()
        notify(workspace, FAILED, wait_s=0.5)
        assert time.monotonic() - started < 2.0
        assert [m["message"] for m in receiver.wait()] == ["\n".join((FAILED.sentence, *FAILED.links))]


def test_a_damaged_params_file_is_no_failure_of_the_run(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    workspace.params_file.write_text("notify: [")
    notify(workspace, FAILED)
    assert "The notification could not be sent" in caplog.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"notify:\n  urls: json://h/{TOKEN}\n  url: 3\n", "Unknown setting notify.url: did you mean urls?"),
        (f"notify:\n  urls: {{json://h/{TOKEN}: 1}}\n", "notify.urls must be an address of Apprise"),
        (f"notify:\n  urls: json://h/{TOKEN}\n  events: failed+crashes\n", "did you mean crashed"),
        (f"notify:\n  urls: json://h/{TOKEN}\n  overdue_days: -1\n", "it must be at least 0"),
        (f"notify:\n  urls: json://h/{TOKEN} : 1\n", "is not valid YAML: mapping values are not allowed"),
        (f"notify:\n  urls: [json://h/{TOKEN}\n", "is not valid YAML"),
    ],
)
def test_wrong_settings_are_one_sentence_without_the_address(
    workspace: Workspace, text: str, said: str
) -> None:
    workspace.params_file.write_text(text)
    with pytest.raises(GanpipeError) as caught:
        workspace.params()
    assert said in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_an_address_is_taken_out_of_every_error(workspace: Workspace) -> None:
    named(workspace, f"urls: discord://1234567/{TOKEN}")
    assert TOKEN in workspace.params().notify.urls
    assert TOKEN not in repr(workspace.params())
    assert redact(f"posting to discord://1234567/{TOKEN} failed") == "posting to *** failed"


def test_an_address_that_no_service_has_is_counted_and_not_shown(workspace: Workspace) -> None:
    named(workspace, f"urls: [json://localhost/, nonsense://{TOKEN}]")
    with pytest.raises(GanpipeError, match=r"^Address 2 of 2 for notifications") as caught:
        check_urls(workspace)
    assert TOKEN not in str(caught.value)


def test_the_command_sends_a_test_and_shows_no_address(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["notify", "--workspace", str(workspace.root)]
    assert main([*words, "--test"]) == 1
    assert "No address is named: set notify.urls" in capsys.readouterr().err
    with receiving() as receiver:
        named(workspace, f"urls: {receiver.url(TOKEN)}")
        assert main([*words, "--test", "--json"]) == 0
        printed = capsys.readouterr()
        assert json.loads(printed.out)["test"] == [{"service": "JSON", "delivered": True}]
        (message,) = receiver.wait()
    assert message["message"] == "This is a test of `ganpipe notify --test`."
    assert main([*words, "--test"]) == 1, "nobody listens any more"
    after = capsys.readouterr()
    assert "was not delivered to JSON" in after.err
    assert TOKEN not in printed.out + printed.err + after.out + after.err


def test_nothing_is_written_into_the_home_folder(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    with receiving() as receiver:
        named(workspace, f"urls: {receiver.url()}")
        assert [d.delivered for d in send_test(workspace)] == [True]
    assert list(home.rglob("*")) == []
