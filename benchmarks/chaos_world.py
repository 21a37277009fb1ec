"""What the chaos benchmark breaks: a workspace with a tiny encoder that learns in seconds, and its clients."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np

from benchmarks.settings_file import write_settings
from perennial.continual.errors import PerennialError
from perennial.ops.serving.client import PerennialClient

__all__ = ["MODEL", "Customers", "make_workspace", "requests_about", "tiny_encoder"]

MODEL = "intent"
SUBJECTS = {
    "card": ["card", "plastic", "chip", "pin"],
    "loan": ["loan", "interest", "mortgage", "debt"],
    "trip": ["trip", "flight", "hotel", "visa"],
}
_OTHER = ["my", "the", "please", "help", "with", "a", "is", "was", "about", "new", "old", "why", "when", "lost", "and"]
_TOML = """
[triton]
grpc_port = {grpc}
http_port = {http}
metrics_port = {metrics}
router_instances = 1
keep_after_control_dies = true
[api]
port = {api}
[schedule]
watch_s = 1.0
retrain_check_s = 1.0
reconcile_s = 2.0
compact_s = 5.0
report_s = 600.0  # seconds of work that no kill is about
[models.intent.learning]
encoder = "{encoder}"
max_length = 32
replay_rows = 60
threads = 1
[models.intent.learning.params]
features = 128
[models.intent.engine]
precision = "fp32"  # random weights give logits that no half precision repeats
[models.intent.drift]
window_rows = 100
reference_rows = 200
report_every_windows = 100000
[models.intent.cycle]
approval = "operator"
shadow = true
shadow_rows = 50
canary_shares = [0.2]
canary_step_s = 0.5
canary_limit_s = 1.0
probation_s = 1.0
min_fresh_rows = 0
min_gain_points = -100.0
max_forgetting_points = 100.0
[models.intent.policy]
kind = "label_count"
at_least = 1000000
"""


def make_workspace(folder: Path) -> Path:
    """Write the settings on free ports, with an encoder beside them. Returns the settings' path."""
    return write_settings(folder, _TOML, encoder=tiny_encoder(folder / "encoder"))


def tiny_encoder(folder: Path) -> Path:
    """A BERT of hidden size 32 with random weights and a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *_OTHER, *(word for some in SUBJECTS.values() for word in some)]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        max_position_embeddings=32,
        initializer_range=0.05,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def requests_about(labels: Sequence[str], count: int, seed: int) -> list[tuple[str, str]]:
    """`count` different texts, evenly about the labels' subjects, with their labels."""
    rng = np.random.default_rng(seed)
    rows: dict[str, str] = {}
    while len(rows) < count:
        label = labels[len(rows) % len(labels)]
        words = [*rng.choice(_OTHER, 5), *rng.choice(SUBJECTS[label], 2)]
        rows.setdefault(" ".join(rng.permutation(words).tolist()), label)
    return list(rows.items())


class Customers:
    """Clients that never stop asking, and label what they were answered; they keep what was promised to them."""

    def __init__(self, grpc: str, api: str, *, pause_s: float) -> None:
        self._grpc, self._api, self._pause_s = grpc, api, pause_s
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [
            threading.Thread(target=self._ask, name="asking", daemon=True),
            threading.Thread(target=self._label, name="labelling", daemon=True),
        ]
        self.answered: dict[str, int] = {}  # prediction id -> version
        self.acknowledged: dict[str, str] = {}  # prediction id -> label
        self._waiting: list[tuple[str, str]] = []
        self.failed = 0
        self.last_answer = 0.0  # monotonic seconds

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def ended(self) -> list[str]:
        """Who of them, once begun, works no more; before `stop` there should be none."""
        return [thread.name for thread in self._threads if thread.ident is not None and not thread.is_alive()]

    def stop(self) -> None:
        """End after what is under way."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=30)

    def _ask(self) -> None:
        rows, number = requests_about(list(SUBJECTS), 3_000, seed=11), 0
        with PerennialClient(self._grpc, MODEL, timeout_s=5.0) as client:
            while not self._stop.wait(self._pause_s):
                text, label = rows[number % len(rows)]
                number += 1
                try:
                    answer = client.predict([text], keys=[f"caller-{number % 50}"])[0]
                except PerennialError:
                    self.failed += 1
                    continue
                with self._lock:
                    self.last_answer = time.monotonic()
                    self.answered[answer.prediction_id] = answer.version
                    self._waiting.append((answer.prediction_id, label))

    def _label(self) -> None:
        with httpx.Client(base_url=self._api, timeout=10) as http:
            while not self._stop.wait(0.3):
                with self._lock:
                    batch, self._waiting = self._waiting[:40], self._waiting[40:]
                if batch and not self._deliver(http, batch):
                    with self._lock:
                        self._waiting = batch + self._waiting

    def _deliver(self, http: httpx.Client, batch: list[tuple[str, str]]) -> bool:
        labels = [{"prediction_id": number, "label": label} for number, label in batch]
        try:
            response = http.post("/v1/feedback", json={"model": MODEL, "labels": labels})
            response.raise_for_status()
        except httpx.HTTPError:
            return False
        with self._lock:
            self.acknowledged |= dict(batch)
        return True
