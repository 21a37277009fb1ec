"""Replies: what a customer wants, which approved answers fit, and whether one may be sent."""

from perennial.continual.tasks.replies.message import Message, Turn, message_of
from perennial.continual.tasks.replies.task import Replies

__all__ = ["Message", "Replies", "Turn", "message_of"]
