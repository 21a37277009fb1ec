"""Messages as e-mail."""

import json
import smtplib
import ssl
import time
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from email.utils import format_datetime

from perennial.continual.errors import ConfigurationError, DependencyUnreachable
from perennial.ops.notify.message import Message

__all__ = ["SmtpChannel"]


class SmtpChannel:
    """Sends each message as plain text by SMTP, with STARTTLS unless it is switched off, and a login if given.

    Mails of one episode share a thread. A temporary failure (no connection, a 4xx answer) is tried again, `attempts`
    times in all; a 5xx answer is final.
    """

    def __init__(
        self,
        host: str,
        *,
        sender: str,
        recipients: Sequence[str],
        port: int = 587,
        user: str | None = None,
        password: str | None = None,
        starttls: bool = True,
        name: str = "smtp",
        attempts: int = 3,
        timeout_s: float = 10.0,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        if not recipients:
            raise ConfigurationError(f"smtp {name} has no recipients; give at least one address")
        if attempts < 1:
            raise ConfigurationError(f"smtp {name}: attempts {attempts} must be at least 1")
        if user is not None and not starttls:
            raise ConfigurationError(f"smtp {name} would send a password in the clear; switch starttls on")
        self.name = name
        self._host, self._port = host, port
        self._sender, self._recipients = sender, tuple(recipients)
        self._user, self._password = user, password
        self._starttls = starttls
        self._attempts = attempts
        self._timeout_s = timeout_s
        self._pause = pause

    def send(self, message: Message) -> None:
        """Send the message.

        Raises:
            DependencyUnreachable: the server did not take it for every recipient.
        """
        mail = self._mail(message)
        seen: Exception | None = None
        for attempt in range(1, self._attempts + 1):
            try:
                self._deliver(mail)
                return
            except (OSError, smtplib.SMTPException) as error:
                seen = error
                if _final(error):
                    break
            if attempt < self._attempts:
                self._pause(min(0.5 * 2 ** (attempt - 1), 10.0))
        raise DependencyUnreachable(
            f"smtp {self.name} did not take {message.alert} of {message.model} ({type(seen).__name__}: {seen}, attempt "
            f"{attempt} of {self._attempts}); check the server {self._host}:{self._port} and the addresses"
        ) from seen

    def _deliver(self, mail: EmailMessage) -> None:
        with smtplib.SMTP(self._host, self._port, timeout=self._timeout_s) as server:
            if self._starttls:
                server.starttls(context=ssl.create_default_context())
            if self._user is not None:
                server.login(self._user, self._password or "")
            refused = server.send_message(mail, self._sender, self._recipients)
        if refused:
            raise smtplib.SMTPRecipientsRefused(refused)

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["From"] = self._sender
        mail["To"] = ", ".join(self._recipients)
        mail["Subject"] = f"[{message.severity}] {message.model}: {message.title}"
        mail["Date"] = format_datetime(message.at)
        mail["References"] = f"<{message.alert}.{message.episode}.{message.model}@perennial>".replace(" ", "-")
        facts = json.dumps(dict(message.facts), indent=1, ensure_ascii=False, default=str) if message.facts else ""
        mail.set_content("\n\n".join(part for part in (message.body or message.title, facts) if part) + "\n")
        return mail


def _final(error: Exception) -> bool:
    """Return whether trying again is useless: the server, or our own set-up, said no for good."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code >= 500
    return isinstance(error, smtplib.SMTPNotSupportedError | ssl.SSLCertVerificationError)
