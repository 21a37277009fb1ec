"""What a deployment is made of: each file is one that its program takes, and says what this product knows."""

import configparser
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.datastructures import Headers

from perennial.continual.errors import ConfigurationError
from perennial.ops.api.origin import Hosts
from perennial.ops.settings import Settings, load_settings
from tests.unit.deploy.queries import DEPLOY, labels_wrong, queries, series_of

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_every_secret_comes_from_outside() -> None:
    secret = re.compile("PASSWORD|SECRET|LEDGER_URL")
    for service in COMPOSE["services"].values():
        for name, value in service.get("environment", {}).items():
            assert "${" in value or not secret.search(name), f"{name} is written into the file"


def test_compose_publishes_and_mounts_nothing_that_is_open_or_missing() -> None:
    known = {"build", "cap_drop", "command", "depends_on", "deploy", "environment", "healthcheck", "image", "ports"}
    known |= {"read_only", "restart", "security_opt", "shm_size", "tmpfs", "user", "volumes"}
    for name, service in COMPOSE["services"].items():
        assert set(service) <= known, name
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            there = (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
            assert there or source == "./viewer.token", f"{name} mounts {source}"
    for name in ("control", "triton"):
        assert COMPOSE["services"][name]["read_only"]
        assert COMPOSE["services"][name]["user"] == "10001:10001"


def test_the_settings_of_a_container_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "perennial.toml").write_text((DEPLOY / "perennial.toml").read_text())
    settings = load_settings(tmp_path / "perennial.toml")
    assert not settings.refused
    assert settings.triton.url == "triton:8001"
    assert settings.api.tokens, "an address beyond loopback is refused without tokens"


def test_variables_of_the_environment_are_settings() -> None:
    text = "\n".join(path.read_text() for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".json")
    named = set(re.findall(r"\bPERENNIAL_([A-Z_]+)\b", text)) - {"SECRET", "PYTHONPATH"}
    assert named >= {"LEDGER_URL", "TRITON__SECRET"}
    for name in named:
        section: Any = Settings
        for step in name.lower().split("__"):
            assert step in section.model_fields, name
            section = section.model_fields[step].annotation


def test_the_images_hold_files_that_there_are() -> None:
    import pytriton

    text = (DEPLOY / "Containerfile").read_text()
    (stub,) = re.findall(r"\$packages/pytriton/(\S+stub)", text)
    assert (Path(pytriton.__file__).parent / stub).is_file()
    backends = DEPLOY.parent / "serving" / "backends"
    (names,) = re.findall(r"for name in ([a-z_ ]+);", text)
    assert sorted(names.split()) == sorted(place.name for place in backends.iterdir() if (place / "model.py").is_file())
    stages = re.findall(r"^FROM .* AS (\w+)$", text, flags=re.MULTILINE)
    assert stages == ["build", "control", "triton"]
    for stage in text.split("\nFROM ")[2:]:
        assert "\nUSER 10001\n" in stage
        assert "\nHEALTHCHECK " in stage


@pytest.fixture
def service() -> configparser.SectionProxy:
    """What systemd's unit says of the service; a name that stands there twice has its last value."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "systemd" / "perennial.service")
    return unit["Service"]


def test_the_unit_of_systemd_is_narrow_and_starts_what_is_installed(service: configparser.SectionProxy) -> None:
    assert service["ExecStart"].startswith("/opt/perennial/bin/perennial ")
    assert service["ExecStart"].endswith(" serve")
    assert (service["ProtectSystem"], service["NoNewPrivileges"], service["UMask"]) == ("strict", "true", "0077")
    assert service["ReadWritePaths"] == service["WorkingDirectory"]


def test_systemd_leaves_triton_running_and_starts_no_wrong_settings_for_ever(
    service: configparser.SectionProxy,
) -> None:
    assert service["KillMode"] == "process", "any other one takes Triton down with a control process that died"
    assert service["RestartPreventExitStatus"] == str(ConfigurationError.exit_code)


def test_whoever_mounts_a_volume_first_can_write_it() -> None:
    stages = dict(re.findall(r"^FROM .* AS (\w+)\n((?:(?!^FROM ).*\n)*)", (DEPLOY / "Containerfile").read_text(), re.M))
    for name in ("control", "triton"):
        (made,) = re.findall(r"install --directory --owner 10001 --mode 0700 (.*)", stages[name])
        mounted = {volume.split(":")[1] for volume in COMPOSE["services"][name]["volumes"] if volume[0] != "."}
        assert mounted <= set(made.split()), f"{name} mounts a folder that the image lacks: it would be root's"


def test_prometheus_asks_the_control_process_by_a_name_that_it_answers_to() -> None:
    settings = load_settings(DEPLOY / "perennial.toml")
    for scrape in yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]:
        ((target,),) = (each["targets"] for each in scrape["static_configs"])
        if target.endswith(":8080"):
            Hosts(settings.api.host, settings.api.hosts).check(Headers({"host": target}), "172.18.0.4")


def test_no_query_asks_for_a_label_that_prometheus_renames() -> None:
    own = re.compile(r"[{,]\s*(job|instance)\s*[=!]")
    assert [where for where, query in queries().items() if own.search(query)] == []
    text = (DEPLOY / "alerts.yml").read_text() + (DEPLOY / "grafana" / "dashboard.json").read_text()
    assert not re.search(r"\$labels\.(job|instance)\b|{{\s*(job|instance)\s*}}", text)


@pytest.mark.parametrize(("where", "query"), queries().items(), ids=queries())
def test_prometheus_can_read_each_query(where: str, query: str) -> None:
    del where
    assert series_of(query)


def test_a_label_that_no_sample_has_is_seen() -> None:
    told = (
        'perennial_champion_version{modell="intent"} 3\nperennial_answer_duration_seconds_count{model="a",arm="b"} 1\n'
    )
    wrong = labels_wrong(told)
    assert any(each.endswith("perennial_champion_version has no label model") for each in wrong)
    assert any(each.endswith("perennial_answer_duration_seconds_count has no label version") for each in wrong), (
        "of a sum"
    )
    assert labels_wrong('perennial_champion_version{model="intent"} 3\n') == []


def test_each_label_in_a_legend_is_one_that_the_query_keeps() -> None:
    board = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            shown = set(re.findall(r"{{\s*(\w+)\s*}}", target["legendFormat"]))
            if kept := re.findall(r"\bby \(([^)]*)\)", target["expr"]):
                assert shown <= set(re.findall(r"\w+", " ".join(kept))) - {"le"}, panel["title"]


def test_every_alert_says_what_to_do_and_prometheus_finds_the_rules() -> None:
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] in {"page", "ticket"} for rule in rules)
    assert yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["rule_files"] == ["alerts.yml"]
    assert tomllib.loads((DEPLOY / "perennial.toml").read_text())["api"]["hosts"]
