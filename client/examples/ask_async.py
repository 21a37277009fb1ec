"""Asks about several texts at once, with asyncio, as part of a trace.

python ask_async.py "my card was stolen" "where is my money"
"""

import asyncio
import os
import sys

from perennial_client import AsyncClient, Places, trace_context

PLACES = Places(grpc=os.environ.get("PERENNIAL_GRPC", "127.0.0.1:8001"))
TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


async def main() -> None:
    async with AsyncClient(os.environ.get("PERENNIAL_MODEL", "intent"), PLACES) as client:
        with trace_context(TRACE):
            answers = await asyncio.gather(*(client.predict(text) for text in sys.argv[1:]))
    for answer in answers:
        print(answer.label, answer.prediction_id)


asyncio.run(main())
