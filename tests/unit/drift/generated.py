"""Made-up answered traffic: two topics of small talk about cards, one topic nobody has seen."""

import numpy as np

from perennial.continual.drift import Window

TOPICS = {
    "lost_card": ("i", "lost", "my", "card", "where", "can", "it", "be", "blocked", "please"),
    "top_up": ("how", "does", "a", "top", "up", "reach", "my", "account", "today"),
    "mortgage": ("interest", "mortgage", "house", "loan", "years", "fixed", "deposit", "lender"),
}


def traffic(rows: int, rng: np.random.Generator, *, new: float = 0.0, version: int = 1) -> Window:
    """Return a window of which a share `new` is about the unseen topic, answered with low confidence."""
    names = np.where(rng.random(rows) < new, "mortgage", rng.choice(["lost_card", "top_up"], rows))
    texts = [" ".join(rng.choice(TOPICS[name], 6)) for name in names]
    centres = {name: np.eye(12)[i] for i, name in enumerate(TOPICS)}
    embeddings = np.stack([centres[name] for name in names]) + 0.15 * rng.normal(size=(rows, 12))
    unseen = names == "mortgage"
    confidence = np.where(unseen, rng.beta(5, 5, rows), rng.beta(20, 2, rows))
    return Window.from_columns(
        {
            "text": texts,
            "prediction": np.where(unseen, rng.choice(["lost_card", "top_up"], rows), names),
            "confidence": confidence,
            "margin": 2 * confidence - 1,
            "entropy": -np.log(confidence),
            "version": np.full(rows, version),
            "embedding": (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float16),
            "prediction_id": [f"p{i}" for i in range(rows)],
        }
    )
