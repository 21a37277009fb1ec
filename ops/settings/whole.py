"""Everything that `perennial` can be told, from a file and the environment."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from perennial.continual.errors import ConfigurationError
from perennial.continual.preparation.presidio import with_presidio
from perennial.continual.tasks import DEFAULT_TASK
from perennial.continual.text_file import SavedText
from perennial.ops.safety.secrecy import shown_problems, shown_toml_error
from perennial.ops.settings.cluster import RaySettings
from perennial.ops.settings.cycle import ScheduleSettings
from perennial.ops.settings.model import ModelSettings, RefusedModel, name_problem, refused_models
from perennial.ops.settings.notify import NotifySettings
from perennial.ops.settings.personal import PersonalSettings
from perennial.ops.settings.reference import meant
from perennial.ops.settings.serving import ApiSettings, TraceSettings, TrafficSettings, TritonSettings
from perennial.ops.settings.speech import SpeechSettings

__all__ = ["Settings", "load_settings"]


class Settings(BaseSettings):
    """Everything `perennial` can be told."""

    model_config = SettingsConfigDict(
        env_prefix="PERENNIAL_", env_nested_delimiter="__", extra="forbid", frozen=True, toml_file="perennial.toml"
    )

    state: Path = Field(Path("var"), description="ledger, traffic, runs, reports and caches")
    repository: Path = Field(Path("model_repository"), description="what Triton loads")
    ledger_url: str = Field("", description="SQLAlchemy URL; empty is SQLite in the state folder")
    umask: str = Field(
        "077",
        pattern="^0?[0-7]{3}$",
        description="permissions, in octal, that no file or folder gives; 007 shares them with the group, for an "
        "external Triton that runs as another user",
    )
    seed: int = 0
    triton: TritonSettings = Field(default_factory=TritonSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    traffic: TrafficSettings = Field(default_factory=TrafficSettings)
    traces: TraceSettings = Field(default_factory=TraceSettings)
    personal: PersonalSettings = Field(default_factory=PersonalSettings)
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    speech: SpeechSettings = Field(default_factory=SpeechSettings)
    ray: RaySettings = Field(default_factory=RaySettings)
    notify: NotifySettings = Field(default_factory=NotifySettings)
    models: dict[str, ModelSettings] = Field(
        default_factory=dict, description="by name; where none is named, those that the ledger knows"
    )
    _refused: dict[str, RefusedModel] = PrivateAttr(default_factory=dict)

    @field_validator("models")
    @classmethod
    def _names_are_plain(cls, models: dict[str, ModelSettings]) -> dict[str, ModelSettings]:
        for name in models:
            if problem := name_problem(name, models):
                raise ValueError(problem)
        return models

    @property
    def refused(self) -> Mapping[str, RefusedModel]:
        """The models whose sections cannot be used; the others are not kept waiting for them."""
        return MappingProxyType(self._refused)

    def task_of(self, model: str) -> str:
        """A model's task. One whose section cannot be used goes on being served, by the task that the section names."""
        if (sound := self.models.get(model)) is not None:
            return sound.task
        return DEFAULT_TASK if (refused := self._refused.get(model)) is None else refused.task

    def with_models(self, models: Mapping[str, ModelSettings], refused: Mapping[str, RefusedModel]) -> "Settings":
        """These settings with other models."""
        changed = self.model_copy(update={"models": dict(models)})
        changed._refused = dict(refused)
        return changed

    @property
    def ledger_address(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.ledger_url or f"sqlite:///{self.state.resolve() / 'ledger.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over arguments over the TOML file."""
        del dotenv_settings, file_secret_settings
        return env_settings, init_settings, _SavedToml(settings_cls)


class _SavedToml(TomlConfigSettingsSource):
    """The TOML file in the encoding that its editor chose."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        import tomllib

        return tomllib.loads(SavedText.of(file_path.read_bytes()).text)


def load_settings(config: Path | None = None) -> Settings:
    """The settings in force.

    Relative `state` and `repository` paths count from the folder of the settings file. A model's section that cannot be
    used stands in `refused`, and keeps no other model from being used.

    Raises:
        ConfigurationError: the named file is missing or not TOML, a setting is unknown or out of range, or no model's
            section can be used.
    """
    import tomllib

    path = config or Path("perennial.toml")
    if config is not None and not path.is_file():
        raise ConfigurationError(f"settings file {path} does not exist; run `perennial init` to write one")

    refused = dict[str, RefusedModel]()

    class _Located(Settings):
        model_config = SettingsConfigDict(**{**Settings.model_config, "toml_file": str(path)})

        @model_validator(mode="before")
        @classmethod
        def _put_aside(cls, given: Any) -> Any:
            """Keep one model's mistake from all others."""
            sections = given.get("models") if isinstance(given, dict) else None
            if not isinstance(sections, dict):
                return given
            refused.update(refused_models(sections))
            return {**given, "models": {name: section for name, section in sections.items() if name not in refused}}

    try:
        settings = _Located()
    except SettingsError as exc:  # a variable that should hold JSON; its message quotes it
        raise ConfigurationError(
            f"a PERENNIAL_* variable cannot be read ({type(exc.__cause__).__name__}): give nested values as JSON, e.g. "
            f"PERENNIAL_API__HOSTS='[\"models.example\"]'"
        ) from None
    except UnicodeDecodeError as exc:
        raise ConfigurationError(
            f"{path} is not UTF-8 (byte {exc.object[exc.start]:#04x} at position {exc.start}); save it as UTF-8 and "
            "try again"
        ) from None
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(
            f"{path} is not valid TOML: {shown_toml_error(exc)}; correct the line and try again"
        ) from None
    except ValidationError as exc:
        problems = "; ".join(shown_problems(exc, lambda place: meant(Settings, place)))
        # from None: pydantic's own message quotes what it saw, secrets among it
        raise ConfigurationError(f"settings from {path} and PERENNIAL_* variables: {problems}") from None
    if refused and not settings.models:
        problems = "; ".join(model.problem for model in refused.values())
        raise ConfigurationError(f"settings from {path} and PERENNIAL_* variables: {problems}")
    with_presidio(settings.personal.presidio)
    base = path.resolve().parent
    located = Settings.model_construct(
        **{
            **{name: getattr(settings, name) for name in Settings.model_fields},
            "state": base / settings.state,
            "repository": base / settings.repository,
        }
    )
    return located.with_models(settings.models, refused)
