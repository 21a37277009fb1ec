"""Messages to people: one an episode, by signed webhook, by e-mail or into the log."""

from perennial.ops.notify.channels import Channel, LogChannel
from perennial.ops.notify.message import Message, Severity
from perennial.ops.notify.notifier import Notifier
from perennial.ops.notify.smtp import SmtpChannel
from perennial.ops.notify.webhook import WebhookChannel, sign, verify_signature

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
