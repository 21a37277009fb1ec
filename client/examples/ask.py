"""Asks about a text and about several, gives the right label back, and shows how the model is.

python ask.py "my card was stolen" lost_card
"""

import os
import sys

from perennial_client import Client, ClientError, Label, Places

places = Places(
    grpc=os.environ.get("PERENNIAL_GRPC", "127.0.0.1:8001"),
    api=os.environ.get("PERENNIAL_API", "http://127.0.0.1:8080"),
    token=os.environ.get("PERENNIAL_TOKEN"),
)
text, label = sys.argv[1:]
try:
    with Client(os.environ.get("PERENNIAL_MODEL", "intent"), places) as client:
        answer = client.predict(text, key="caller-7")
        print(f"{answer.label} {answer.confidence:.2f} by version {answer.version}")
        print(len(client.predict_many([text] * 100)), "answers to 100 texts")
        kept = client.feedback([Label(prediction_id=answer.prediction_id, label=label)])
        print(kept.new, "new label")
        print("version", client.status().champion, "answers")
except ClientError as error:
    sys.exit(f"ask.py: {error}")
