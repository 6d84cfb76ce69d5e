"""No secret stands in an error or a log line."""

from __future__ import annotations

import logging
import os

import pytest

from ganpipe.console import _Plain
from ganpipe.errors import GanpipeError, redact
from ganpipe.stores.workspace import Workspace


@pytest.mark.parametrize(
    "text",
    [
        "API request to http://jane:pa55word@host:5000/api failed",
        "postgresql+psycopg2://jane:pa55word@db/mlflow and http://a:pa55word@b",
        "https://:pa55word@host/x, http://pa55word@host",
        "remote s3://key:pa55word@bucket'",
        "http://jane:p@pa55word@host/",
    ],
)
def test_credentials_of_a_uri_are_hidden_in_every_error(text: str) -> None:
    assert "pa55word" not in str(GanpipeError(text))
    assert "***@" in str(GanpipeError(text))
    record = logging.LogRecord("ganpipe", logging.WARNING, "", 0, text, None, None)
    assert "pa55word" not in _Plain("%(message)s").format(record)


def test_what_is_no_credential_is_shown() -> None:
    for text in ("http://127.0.0.1:4200/api", "cats@1234 at http://host/a@b", "me@example.org"):
        assert redact(text) == text


def test_secrets_of_the_environment_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ganpipe:abcdefgh")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://jane:pa%40ssword@db/x")
    for secret in ("wJalrXUtnFEMI", "ganpipe:abcdefgh", "pa@ssword", "pa%40ssword"):
        assert secret not in redact(f"it said {secret} twice {secret}")


def test_mlflows_and_prefects_passwords_leave_their_addresses(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other libraries quote an address in what they print and log."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://jane:pa%40ss@host:5000/x")
    monkeypatch.setenv("PREFECT_API_URL", "https://jane:pa55word@host/api")
    workspace.activate()
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://host:5000/x"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == (
        "jane",
        "pa@ss",
    )
    assert os.environ["PREFECT_API_URL"] == "https://host/api"
    assert os.environ["PREFECT_API_AUTH_STRING"] == "jane:pa55word"
