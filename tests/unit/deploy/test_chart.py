"""The Helm chart renders into what Kubernetes takes, for one Triton and for several, and says what is missing."""

import json
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from perennial.ops.settings import load_settings
from tests.unit.deploy.chart import CHART, NEEDED, helm, rendered
from tests.unit.deploy.queries import DEPLOY

_SEVERAL = (
    *NEEDED,
    "--set",
    "triton.replicas=3,triton.gpus=0,storage.className=nfs",
    "--set",
    "hosts={models.example}",
)
_EXISTING = ("--set", "existingSecret=mine")
_PROVIDER = "[api.oidc]\nissuer = 'https://id.example'\nclient_id = 'p'\naddress = 'https://models.example'\n"
_SECRET = {"name": "PERENNIAL_API__OIDC__CLIENT_SECRET", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "oidc"}}}
_PEOPLE = (
    *_EXISTING,
    "--set-json",
    f"accounts=true,environment={json.dumps([_SECRET])},settings={json.dumps(_PROVIDER + '[models.intent]')}",
)


def of_kind(kind: str, *values: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in rendered(*values) if one["kind"] == kind}


@pytest.mark.parametrize("values", [NEEDED, _SEVERAL, _EXISTING, _PEOPLE], ids=["one", "several", "existing", "people"])
def test_kubernetes_takes_each_manifest(values: tuple[str, ...]) -> None:
    for manifest in rendered(*values):
        kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_helm_finds_nothing_wrong_with_the_chart() -> None:
    done = helm("lint", "--strict", str(CHART), *NEEDED)
    assert done.returncode == 0, done.stdout


def test_no_pod_is_root_or_writes_its_root() -> None:
    for deployment in of_kind("Deployment", *NEEDED).values():
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["serviceAccountName"] == "perennial"
        for container in pod["containers"]:
            allowed = container["securityContext"]
            assert allowed["readOnlyRootFilesystem"]
            assert not allowed["allowPrivilegeEscalation"]
            assert allowed["capabilities"] == {"drop": ["ALL"]}
            assert "readinessProbe" in container
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert mounts == {volume["name"] for volume in pod["volumes"]}


def test_each_triton_has_a_service_of_its_own_and_the_control_process_names_all(tmp_path: Path) -> None:
    tritons = [f"perennial-triton-{number}" for number in range(3)]
    services, deployments = of_kind("Service", *_SEVERAL), of_kind("Deployment", *_SEVERAL)
    assert sorted(services) == sorted(deployments) == sorted(["perennial", *tritons])
    for name in tritons:
        selector = services[name]["spec"]["selector"]
        assert [other for other in tritons if selector.items() <= _labels(deployments[other]).items()] == [name]
    (config,) = of_kind("ConfigMap", *_SEVERAL).values()
    (tmp_path / "perennial.toml").write_text(config["data"]["perennial.toml"].replace("TOKEN", "0" * 64))
    settings = load_settings(tmp_path / "perennial.toml")
    assert not settings.refused
    assert settings.triton.url == ",".join(f"{name}:8001" for name in tritons)
    assert settings.api.hosts == ("perennial", "perennial.models.svc", "models.example")
    assert list(settings.api.tokens.values()) == ["viewer"]
    assert list(settings.models) == ["intent"]


def test_a_drain_leaves_a_triton_and_only_who_is_named_comes_in() -> None:
    for values, spared in ((NEEDED, 0), (_SEVERAL, 1)):
        (budget,) = of_kind("PodDisruptionBudget", *values).values()
        assert budget["spec"]["maxUnavailable"] == spared
    policies, labels = of_kind("NetworkPolicy", *NEEDED), _labels(of_kind("Deployment", *NEEDED)["perennial-triton-0"])
    for name, ports in (("perennial", {8080}), ("perennial-triton", {8001, 8002})):
        rules = policies[name]["spec"]["ingress"]
        assert {port["port"] for rule in rules for port in rule["ports"]} == ports
        assert all(rule["from"] for rule in rules)
    assert policies["perennial-triton"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_secrets_come_from_outside_or_are_asked_for() -> None:
    assert not of_kind("Secret", *_EXISTING)
    for deployment in of_kind("Deployment", *_EXISTING).values():
        for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"]:
            assert variable["valueFrom"]["secretKeyRef"]["name"] == "mine", variable["name"]
    for given, missing in (("ledgerUrl=x", "tritonSecret"), ("tritonSecret=x", "ledgerUrl")):
        done = helm("template", "perennial", str(CHART), "--set", given)
        assert done.returncode != 0
        assert f"{missing} or existingSecret is needed" in done.stderr


def test_people_sign_in_where_the_values_say_so_and_their_secret_is_in_no_file(tmp_path: Path) -> None:
    (config,) = of_kind("ConfigMap", *_PEOPLE).values()
    (tmp_path / "perennial.toml").write_text(config["data"]["perennial.toml"])
    api = load_settings(tmp_path / "perennial.toml").api
    assert (api.accounts, api.oidc.issuer, api.tokens) == (True, "https://id.example", {})
    (container,) = of_kind("Deployment", *_PEOPLE)["perennial"]["spec"]["template"]["spec"]["containers"]
    assert container["env"][-1]["name"] == "PERENNIAL_API__OIDC__CLIENT_SECRET"


def test_the_image_has_what_settings_alone_switch_on() -> None:
    line = next(each for each in (DEPLOY / "Containerfile").read_text().splitlines() if "'.[" in each)
    extras = line.partition("[")[2].partition("]")[0].split(",")
    assert {"postgresql", "oidc", "traces", "images", "speech"} <= set(extras)
    known = tomllib.loads((DEPLOY.parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) <= set(known)


def test_the_chart_is_of_this_release() -> None:
    release = tomllib.loads((DEPLOY.parents[1] / "pyproject.toml").read_text())["project"]["version"]
    chart, values = (yaml.safe_load((CHART / name).read_text()) for name in ("Chart.yaml", "values.yaml"))
    images = [values["images"][name].rpartition(":")[2] for name in ("control", "triton")]
    assert {chart["version"], chart["appVersion"], *images} == {release}


def test_gpus_are_asked_for_where_there_are_some() -> None:
    for values, expected in ((NEEDED, "1"), (_SEVERAL, None)):
        container = of_kind("Deployment", *values)["perennial-triton-0"]["spec"]["template"]["spec"]["containers"][0]
        assert container["resources"]["limits"].get("nvidia.com/gpu") == expected


def _labels(deployment: dict[str, Any]) -> dict[str, str]:
    labels: dict[str, str] = deployment["spec"]["template"]["metadata"]["labels"]
    return labels
