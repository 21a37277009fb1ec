"""Messages to people: one an episode, by signed webhook, by e-mail or into the log."""

from ops.notify.channels import Channel, LogChannel
from ops.notify.message import Message, Severity
from ops.notify.notifier import Notifier
from ops.notify.smtp import SmtpChannel
from ops.notify.webhook import WebhookChannel, sign, verify_signature

__all__ = [
    "Channel",
    "LogChannel",
    "Message",
    "Notifier",
    "Severity",
    "SmtpChannel",
    "WebhookChannel",
    "sign",
    "verify_signature",
]
