"""Settings: `perennial.toml` in the working folder, overridden by `PERENNIAL_*` variables (`__` between levels)."""

from perennial.ops.settings.cycle import CycleSettings, ScheduleSettings
from perennial.ops.settings.drift import DriftWatchSettings
from perennial.ops.settings.headlines import AlertRuleSettings, EventWatchSettings, FeedSettings
from perennial.ops.settings.learning import EngineSettings, LearningSettings
from perennial.ops.settings.model import ModelSettings, RefusedModel
from perennial.ops.settings.notify import MailSettings, NotifySettings, WebhookSettings
from perennial.ops.settings.serving import ApiSettings, OidcSettings, TrafficSettings, TritonSettings
from perennial.ops.settings.whole import Settings, load_settings

__all__ = [
    "AlertRuleSettings",
    "ApiSettings",
    "CycleSettings",
    "DriftWatchSettings",
    "EngineSettings",
    "EventWatchSettings",
    "FeedSettings",
    "LearningSettings",
    "MailSettings",
    "ModelSettings",
    "NotifySettings",
    "OidcSettings",
    "RefusedModel",
    "ScheduleSettings",
    "Settings",
    "TrafficSettings",
    "TritonSettings",
    "WebhookSettings",
    "load_settings",
]
