"""Who is told what happens, and how."""

from pydantic import Field, SecretStr

from perennial.ops.settings.section import Section

__all__ = ["MailSettings", "NotifySettings", "WebhookSettings"]


class WebhookSettings(Section):
    """One receiver of messages as JSON over HTTP."""

    url: str = Field(min_length=1)
    secret: SecretStr | None = Field(None, description="signs each post (HMAC-SHA256); best given by the environment")
    headers: dict[str, str] = Field(default_factory=dict)
    attempts: int = Field(3, ge=1)
    timeout_s: float = Field(5.0, gt=0)


class MailSettings(Section):
    """One set of recipients of messages by SMTP."""

    host: str = Field(min_length=1)
    port: int = Field(587, ge=1, le=65535)
    sender: str = Field(min_length=3)
    recipients: tuple[str, ...] = Field(min_length=1)
    user: str | None = None
    password: SecretStr | None = Field(None, description="best given by the environment")
    starttls: bool = True
    attempts: int = Field(3, ge=1)
    timeout_s: float = Field(10.0, gt=0)


class NotifySettings(Section):
    """Who hears of drift alerts, refused and promoted challengers, rollbacks and restarts; each thing once."""

    log: bool = Field(True, description="write each message into the log")
    webhook: dict[str, WebhookSettings] = Field(default_factory=dict, description="by a name of your own")
    mail: dict[str, MailSettings] = Field(default_factory=dict, description="by a name of your own")
