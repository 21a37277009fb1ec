"""Messages that really leave: to an HTTP receiver and to an SMTP server on this machine."""

import email
import email.policy
import json
import logging
import socketserver
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.errors import ConfigurationError, DataError, DependencyUnreachable
from perennial.ops.app.wiring import notifier
from perennial.ops.ledger import Ledger
from perennial.ops.notify import (
    LogChannel,
    Message,
    Notifier,
    Severity,
    SmtpChannel,
    WebhookChannel,
    sign,
    verify_signature,
)
from perennial.ops.settings import load_settings
from tests.component.databases import fresh_url

pytestmark = pytest.mark.component

MESSAGE = Message(
    model="intent",
    alert="drift",
    episode="2026-01-01T00:00",
    title="Drift in 3 signals",
    body="New words – «überweisung»",
    at=datetime(2026, 1, 1, tzinfo=UTC),
    severity=Severity.ALERT,
    facts={"effect": 0.31},
)


class Receiver:
    """An HTTP server that keeps what it got and answers from a list of statuses, then with 204."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.delay_s = 0.0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), body))
                time.sleep(receiver.delay_s)
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Keep the test's output clean."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?token=secret-token"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Mailbox:
    """A minimal SMTP server: keeps each mail with its envelope; refuses recipients or whole sessions when told to."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], EmailMessage]] = []
        self.refuse: dict[str, int] = {}
        self.greetings: list[int] = []
        self.sessions = 0
        mailbox = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                mailbox.sessions += 1
                mailbox.talk(self)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def talk(self, session: socketserver.StreamRequestHandler) -> None:
        def say(code: int, text: str = "ok") -> None:
            session.wfile.write(f"{code} {text}\r\n".encode())

        say(self.greetings.pop(0) if self.greetings else 220, "perennial test")
        sender, recipients = "", []
        for raw in session.rfile:
            line = raw.decode().strip()
            verb = line.upper()
            if verb.startswith(("EHLO", "HELO", "RSET", "NOOP")):
                say(250)
            elif verb.startswith("MAIL FROM:"):
                sender = line[10:].split()[0].strip("<>")
                say(250)
            elif verb.startswith("RCPT TO:"):
                recipient = line[8:].split()[0].strip("<>")
                code = self.refuse.get(recipient, 250)
                recipients += [recipient] if code == 250 else []
                say(code)
            elif verb == "DATA":
                say(354)
                text = b"".join(iter(session.rfile.readline, b".\r\n"))
                parsed = email.message_from_bytes(text, policy=email.policy.default)
                assert isinstance(parsed, EmailMessage)
                self.mails.append((sender, recipients, parsed))
                say(250)
            elif verb == "QUIT":
                say(221)
                return
            else:
                say(502)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    made = Mailbox()
    yield made
    made.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(fresh_url("sqlite", tmp_path)) as opened:
        opened.register_model("intent", {})
        yield opened


def webhook(receiver: Receiver, **facts: Any) -> WebhookChannel:
    return WebhookChannel(receiver.url, secret="s3", pause=lambda _: None, **facts)


def test_a_webhook_delivers_a_body_whose_signature_holds(receiver: Receiver) -> None:
    webhook(receiver, headers={"X-Team": "ml"}).send(MESSAGE)
    ((headers, body),) = receiver.got
    assert json.loads(body) == MESSAGE.values()
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Team"] == "ml"
    signature = headers["Perennial-Signature"]
    assert verify_signature("s3", body, signature, now=time.time())
    assert not verify_signature("other", body, signature, now=time.time())
    assert not verify_signature("s3", body + b" ", signature, now=time.time())
    assert not verify_signature("s3", body, signature, now=time.time() + 301)
    assert not verify_signature("s3", body, "t=soon,v1=0", now=time.time())


def test_a_signature_is_what_a_receiver_computes_from_the_documented_form() -> None:
    # printf '1700000000.{}' | openssl dgst -sha256 -hmac key
    known = "t=1700000000,v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"
    assert sign("key", b"{}", 1_700_000_000) == known


def test_a_webhook_tries_again_while_the_receiver_is_unwell(receiver: Receiver) -> None:
    receiver.statuses = [503, 429]
    pauses: list[float] = []
    WebhookChannel(receiver.url, pause=pauses.append).send(MESSAGE)
    assert len(receiver.got) == 3
    assert pauses == [0.5, 1.0]
    keys = {headers["Idempotency-Key"] for headers, _ in receiver.got}
    assert len(keys) == 1
    assert all("Perennial-Signature" not in headers for headers, _ in receiver.got)


@pytest.mark.parametrize(("status", "posts"), [(400, 1), (404, 1), (302, 1), (500, 3)])
def test_a_webhook_gives_up_with_what_it_saw_and_no_secret(receiver: Receiver, status: int, posts: int) -> None:
    receiver.statuses = [status] * 5
    with pytest.raises(DependencyUnreachable, match=f"status {status}") as refusal:
        webhook(receiver).send(MESSAGE)
    assert len(receiver.got) == posts
    assert "secret-token" not in str(refusal.value)


def test_a_webhook_that_hangs_or_is_gone_ends_in_time(receiver: Receiver) -> None:
    receiver.delay_s = 0.5
    with pytest.raises(DependencyUnreachable, match="ReadTimeout"):
        webhook(receiver, timeout_s=0.05, attempts=2).send(MESSAGE)
    with pytest.raises(DependencyUnreachable, match="ConnectError"):
        WebhookChannel("http://127.0.0.1:9/", attempts=1).send(MESSAGE)


def smtp(mailbox: Mailbox, *recipients: str, **facts: Any) -> SmtpChannel:
    return SmtpChannel(
        "127.0.0.1",
        port=mailbox.port,
        sender="perennial@example.org",
        recipients=recipients or ("anna@example.org", "ben@example.org"),
        starttls=False,
        pause=lambda _: None,
        **facts,
    )


def test_a_mail_reaches_every_recipient_with_its_facts(mailbox: Mailbox) -> None:
    smtp(mailbox).send(MESSAGE)
    ((sender, recipients, mail),) = mailbox.mails
    assert (sender, recipients) == ("perennial@example.org", ["anna@example.org", "ben@example.org"])
    assert mail["Subject"] == "[alert] intent: Drift in 3 signals"
    text = mail.get_content()
    assert "«überweisung»" in text
    assert '"effect": 0.31' in text


def test_a_mail_is_tried_again_after_a_temporary_refusal_only(mailbox: Mailbox) -> None:
    mailbox.greetings = [421]
    smtp(mailbox).send(MESSAGE)
    assert (mailbox.sessions, len(mailbox.mails)) == (2, 1)
    mailbox.refuse = {"gone@example.org": 550}
    with pytest.raises(DependencyUnreachable, match=r"gone@example\.org"):
        smtp(mailbox, "gone@example.org").send(MESSAGE)
    assert mailbox.sessions == 3
    mailbox.refuse = {"busy@example.org": 450}
    with pytest.raises(DependencyUnreachable, match="attempt 2 of 2"):
        smtp(mailbox, "busy@example.org", attempts=2).send(MESSAGE)
    assert mailbox.sessions == 5


def test_a_mail_is_not_sent_in_the_clear_when_encryption_was_asked_for(mailbox: Mailbox) -> None:
    channel = SmtpChannel("127.0.0.1", port=mailbox.port, sender="a@example.org", recipients=("b@example.org",))
    with pytest.raises(DependencyUnreachable, match="STARTTLS"):
        channel.send(MESSAGE)
    assert (mailbox.sessions, mailbox.mails) == (1, [])


def test_channels_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="http://"):
        WebhookChannel("ftp://example.org")
    with pytest.raises(ConfigurationError, match="attempts 0"):
        WebhookChannel("http://example.org", attempts=0)
    with pytest.raises(ConfigurationError, match="no recipients"):
        SmtpChannel("h", sender="a", recipients=())
    with pytest.raises(ConfigurationError, match="in the clear"):
        SmtpChannel("h", sender="a", recipients=("b",), user="u", starttls=False)
    with pytest.raises(DataError, match="title"):
        replace(MESSAGE, title="two\nlines")


def test_an_episode_is_told_once_on_each_channel(
    ledger: Ledger, receiver: Receiver, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    channels = [webhook(receiver), smtp(mailbox), LogChannel()]
    first, second = Notifier(ledger, channels), Notifier(ledger, channels)
    assert first.notify(MESSAGE) == ("webhook", "smtp", "log")
    assert [first.notify(MESSAGE), second.notify(replace(MESSAGE, title="Still drifting"))] == [(), ()]
    assert second.notify(replace(MESSAGE, episode="later")) == ("webhook", "smtp", "log")
    assert (len(receiver.got), len(mailbox.mails)) == (2, 2)
    notices = [record for record in caplog.records if record.message == "notice"]
    assert [record.levelname for record in notices] == ["ERROR", "ERROR"]


def test_what_a_channel_did_not_take_is_tried_at_the_next_call_and_only_there(
    ledger: Ledger, receiver: Receiver
) -> None:
    receiver.statuses = [400]
    notifier = Notifier(ledger, [webhook(receiver), LogChannel()])
    assert notifier.notify(MESSAGE) == ("log",)
    assert "status 400" in (ledger.notices("intent")[-1].error or "")
    assert notifier.notify(MESSAGE) == ("webhook",)
    assert notifier.notify(MESSAGE) == ()
    assert {(notice.channel, notice.attempts) for notice in ledger.notices("intent")} == {("webhook", 2), ("log", 1)}


def test_a_message_whose_sender_died_is_sent_by_the_next_call_after_a_while(tmp_path: Path, receiver: Receiver) -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    with Ledger.open(fresh_url("sqlite", tmp_path), clock=lambda: now[0]) as ledger:
        ledger.register_model("intent", {})
        assert ledger.claim_notice("intent", MESSAGE.alert, MESSAGE.episode, "webhook")  # and dies
        notifier = Notifier(ledger, [webhook(receiver)])
        assert notifier.notify(MESSAGE) == ()
        now[0] += timedelta(minutes=11)
        assert notifier.notify(MESSAGE) == ("webhook",)


def test_two_channels_of_one_name_are_refused(ledger: Ledger) -> None:
    with pytest.raises(ConfigurationError, match="not all different"):
        Notifier(ledger, [LogChannel(), LogChannel()])


def test_settings_name_the_receivers_and_each_hears_once(
    receiver: Receiver, mailbox: Mailbox, ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "perennial.toml"
    path.write_text(
        f"""
[notify.webhook.ops]
url = "{receiver.url}"
[notify.mail.team]
host = "127.0.0.1"
port = {mailbox.port}
sender = "perennial@example.org"
recipients = ["ann@example.org", "ben@example.org"]
starttls = false
"""
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERENNIAL_NOTIFY__WEBHOOK__OPS__SECRET", "from the environment")
        settings = load_settings(path)
    assert "from the environment" not in repr(settings)
    made = notifier(settings, ledger)
    assert made.notify(MESSAGE) == ("log", "webhook:ops", "mail:team")
    assert made.settled(MESSAGE)
    assert notifier(settings, ledger).notify(MESSAGE) == ()
    ((headers, body),) = receiver.got
    assert verify_signature("from the environment", body, headers["Perennial-Signature"], now=time.time())
    ((_, recipients, mail),) = mailbox.mails
    assert recipients == ["ann@example.org", "ben@example.org"]
    assert mail["Subject"] == "[alert] intent: Drift in 3 signals"
