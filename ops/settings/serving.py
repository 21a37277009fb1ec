"""The server, the control API and the log of what was answered."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from perennial.ops.safety.addresses import is_loopback
from perennial.ops.safety.tokens import is_hashed
from perennial.ops.settings.section import Section

__all__ = ["ApiSettings", "OidcSettings", "TraceSettings", "TrafficSettings", "TritonSettings"]


class TritonSettings(Section):
    """The inference server: the embedded one, or an external one by URL."""

    url: str = Field(
        "", description="gRPC address host:port of a Triton run by somebody else; empty starts the embedded one"
    )
    secret: SecretStr | None = Field(
        None,
        description="what the restricted protocols of that Triton expect under the key perennial-secret, best given by "
        "the environment; the embedded one makes its own at each start",
    )
    host: str = Field("127.0.0.1", description="address that the embedded server listens on")
    expose_unauthenticated_inference: bool = Field(
        False,
        description="allows a host beyond loopback, where whoever reaches it may ask the models without a password",
    )
    grpc_port: int = Field(8001, ge=1, le=65535)
    http_port: int = Field(8000, ge=1, le=65535)
    http: bool = Field(True, description="whether the embedded server answers over HTTP at all, beside gRPC")
    http_body_bytes: int = Field(64 * 2**20, ge=1_024, le=2**30, description="most bytes of a request over HTTP")
    http_hosts: tuple[str, ...] = Field(
        (), description="names by which clients may call the HTTP port beside localhost and its address"
    )
    http_origins: tuple[str, ...] = Field(
        (), description='web pages, as "https://name", whose requests over HTTP are let through; all others are refused'
    )
    http_together: bool = Field(
        True,
        description="whether small requests over HTTP that wait together are handed on as one; Triton's own counts "
        "are of those",
    )
    metrics_port: int = Field(8002, ge=1, le=65535)
    router_instances: int = Field(2, ge=1, description="router processes; each tokenises and logs on its own")
    engine_instances: int = Field(1, ge=1, description="engine processes per version")
    engine_threads: int = Field(0, ge=0, description="threads of one engine; 0 lets the runtime decide")
    engine_backend: Literal["perennial_engine", "onnxruntime", "openvino", "tensorrt"] = Field(
        "perennial_engine",
        description="what executes the versions; the others are NGC's (set url), for bundles of that engine",
    )
    max_batch_size: int = Field(64, ge=1)
    challenger_limit_s: float = Field(
        1.0, gt=0, description="a challenger that takes longer is answered for by the champion"
    )
    champion_limit_s: float = Field(
        10.0,
        gt=0,
        description="a champion that takes longer is answered for by the one before it, while that one is loaded",
    )
    queue_limit_s: float = Field(
        10.0,
        gt=0,
        description="a request that would wait for longer before it is worked on is refused, told when to retry",
    )
    queue_rows: int = Field(8_192, ge=1, description="texts that may wait in one router process")
    cache_rows: int = Field(
        0,
        ge=0,
        description="answers that each router process keeps for ten minutes at most, for who asks a version the same "
        "text again; 0 keeps none",
    )
    stall_limit_s: float = Field(
        30.0,
        gt=0,
        description="the server is restarted when callers wait and so long no answer comes out; more than the slowest "
        "batch takes",
    )
    keep_after_control_dies: bool = Field(
        True, description="the server goes on answering when the control process is killed; the next one adopts it"
    )


RoleWord = Literal["viewer", "labeller", "operator", "admin"]


class OidcSettings(Section):
    """An identity provider, by OpenID Connect, that says who somebody is."""

    issuer: str = Field(
        "",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="the provider's address, https but on this machine; empty uses none",
    )
    client_id: str = Field("", description="of this service at the provider")
    client_secret: SecretStr | None = Field(None, description="likewise; empty for a public client")
    address: str = Field(
        "",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="where browsers reach the console, e.g. https://models.example; the provider sends people back to "
        "/console/sign-in/provider/back there",
    )
    claim: str = Field(
        "email", min_length=1, description="what names the account; an e-mail address has to be a verified one"
    )
    new_accounts: RoleWord | None = Field(
        None, description="role for every model of somebody whom no account names; without one they are refused"
    )

    @model_validator(mode="after")
    def _is_whole(self) -> "OidcSettings":
        if self.issuer and not (self.client_id and self.address):
            raise ValueError("a provider needs issuer, client_id and address; one of them is missing")
        parts = urlsplit(self.issuer)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError(
                f"issuer {self.issuer!r} is not encrypted: whoever sits in between could be anybody; use https://"
            )
        return self


class ApiSettings(Section):
    """The HTTP control plane."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=1, le=65535)
    tokens: dict[str, RoleWord] = Field(
        default_factory=dict,
        description="hash of a bearer token (`perennial token new` prints both) -> role; empty leaves a loopback "
        "address open and refuses any other",
    )
    accounts: bool = Field(
        False,
        description="people and programs have accounts of their own (`perennial account set`); everybody is asked who "
        "they are",
    )
    oidc: OidcSettings = Field(default_factory=OidcSettings)
    hosts: tuple[str, ...] = Field(
        (), description="names that this server answers to beside localhost and its own address, e.g. of a proxy"
    )
    body_bytes: int = Field(16 * 2**20, ge=1_024, description="largest request body")
    idle_s: float = Field(
        10.0, gt=0, description="a caller that sends no more of its request for so long is disconnected"
    )

    @model_validator(mode="after")
    def _provider_has_accounts(self) -> "ApiSettings":
        if self.oidc.issuer and not self.accounts:
            raise ValueError("oidc.issuer is set and accounts is false; who signs in by a provider has an account")
        return self

    @field_validator("tokens")
    @classmethod
    def _tokens_are_hashed(cls, tokens: dict[str, str]) -> dict[str, str]:
        for number, entry in enumerate(tokens, start=1):
            if not is_hashed(entry):
                raise ValueError(
                    f"entry {number} is not the hash of a token (sha256: and 64 hexadecimal digits); run "
                    f"`perennial token new`, or `perennial token hash` for a token that is in use"
                )
        return tokens


class TraceSettings(Section):
    """Traces for an OpenTelemetry collector: of requests by Triton itself, of cycles by the control process."""

    url: str = Field(
        "",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="where the collector takes OTLP over HTTP, e.g. http://127.0.0.1:4318/v1/traces; empty makes none",
    )
    every: int = Field(
        1_000,
        ge=1,
        description="one request of so many is traced, beside those whose caller says that it traces them",
    )


class TrafficSettings(Section):
    """The log of answered requests."""

    rotate_rows: int = Field(5_000, ge=1)
    rotate_s: float = Field(60.0, gt=0)
    retention_days: float = Field(30.0, gt=0)
