"""Prometheus's own tool reads the rules, its settings and what a process tells; where the tool is installed."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from perennial.ops.ledger import Ledger
from perennial.ops.views.answer_times import BOUNDS_S, ArmTimes
from perennial.ops.views.metrics import prometheus_text
from tests.unit.deploy.queries import DEPLOY

PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: `apt-get install prometheus`")
_TIMES = ArmTimes(version=3, arm="champion", buckets=(1,) * (len(BOUNDS_S) + 1), seconds=20.0)
_FELL = {"measured_high": 0.7, "estimated_low": 0.8}


def promtool(*arguments: str, said: str = "") -> str:
    ran = subprocess.run([str(PROMTOOL), *arguments], input=said, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_it_takes_the_rules_and_the_settings(tmp_path: Path) -> None:
    assert "SUCCESS" in promtool("check", "rules", str(DEPLOY / "alerts.yml"))
    settings = (DEPLOY / "prometheus.yml").read_text().replace("/etc/prometheus/viewer.token", str(tmp_path / "token"))
    (tmp_path / "token").write_text("x")
    (tmp_path / "prometheus.yml").write_text(settings)
    (tmp_path / "alerts.yml").write_text((DEPLOY / "alerts.yml").read_text())
    assert "SUCCESS" in promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_it_takes_what_the_control_process_tells(tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ledger.register_model("intent", {})
        told = prometheus_text(
            ledger, ["intent"], restarts=1, parts={"disk": True}, rows_lost={}, answered={"intent": [_TIMES]}
        )
    assert 'perennial_answer_duration_seconds_bucket{arm="champion",le="+Inf",model="intent",version="3"} 14.0' in told
    assert promtool("check", "metrics", said=told) == ""


def _alert(name: str, series: list[tuple[str, str]], *, at: str, labels: dict[str, str]) -> dict[str, object]:
    """A case: the alert burns at this time, and does not before anything happened."""
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
    (rule,) = [rule for rule in rules if rule["alert"] == name]
    said = rule["annotations"]["summary"].replace("{{ $labels.model }}", labels.get("model", ""))
    burns = {"exp_labels": labels | rule["labels"], "exp_annotations": {"summary": said}}
    return {
        "interval": "1m",
        "input_series": [{"series": series_, "values": values} for series_, values in series],
        "alert_rule_test": [
            {"eval_time": "0m", "alertname": name, "exp_alerts": []},
            {"eval_time": at, "alertname": name, "exp_alerts": [burns]},
        ],
    }


def test_alerts_burn_when_they_should(tmp_path: Path) -> None:
    bucket = 'perennial_answer_duration_seconds_bucket{model="intent",version="1",arm="champion"'
    count = 'perennial_answer_duration_seconds_count{model="intent",version="2",arm="fallback"}'
    intent, of = {"model": "intent"}, '{model="intent"}'
    slow = [(f'{bucket},le="{bound}"}}', f"0+{each}x60") for bound, each in (("1.0", 50), ("2.5", 99), ("+Inf", 100))]
    waiting = [(f"perennial_feedback_waiting{of}", "101+0x240")]
    fell = [(f"perennial_accuracy_{name}{of}", f"{value}+0x120") for name, value in _FELL.items()]
    drifts = [(f"perennial_drift_alert{of}", "1+0x300"), (f"perennial_cycle_active{of}", "0+0x300")]
    cases = [
        _alert("PerennialSlow", slow, at="40m", labels=intent),
        _alert("PerennialChallengerFails", [(count, "0+2x60")], at="30m", labels=intent),
        _alert("PerennialLabelsUnmatched", waiting, at="3h", labels=intent),
        _alert("PerennialAccuracyFell", fell, at="60m", labels=intent),
        _alert(
            "PerennialTrafficLost", [(f"perennial_traffic_rows_lost{of}", "0+0x5 0+10x30")], at="20m", labels=intent
        ),
        _alert("PerennialDrift", drifts, at="4h", labels=intent),
    ]
    document = {"rule_files": [str(DEPLOY / "alerts.yml")], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "cases.yml").write_text(yaml.safe_dump(document))
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / "cases.yml"))
