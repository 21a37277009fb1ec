"""Approved replies: a library of them, how a question is matched with one, and weights learnt of feedback.

Standard library, numpy and scipy only. Nothing here knows files of a service, servers or the loop.
"""

from perennial.continual.learning.replies.features import FEATURES, Searched, Surface
from perennial.continual.learning.replies.fitting import FitSettings, fit_matcher
from perennial.continual.learning.replies.library import (
    Library,
    Question,
    Reply,
    fill,
    key_of,
    proves,
    read_library,
    variables_of,
    write_library,
)
from perennial.continual.learning.replies.matcher import MATCHER_FILE, Matcher
from perennial.continual.learning.replies.sending import Action, Sending, SendingRule, lowest_precision

__all__ = [
    "FEATURES",
    "MATCHER_FILE",
    "Action",
    "FitSettings",
    "Library",
    "Matcher",
    "Question",
    "Reply",
    "Searched",
    "Sending",
    "SendingRule",
    "Surface",
    "fill",
    "fit_matcher",
    "key_of",
    "lowest_precision",
    "proves",
    "read_library",
    "variables_of",
    "write_library",
]
