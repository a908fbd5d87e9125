"""The handlers as an ASGI application, for uvicorn: the command is the path, JSON in, JSON out.

The handlers block, as code that waits or computes without asyncio does, so a worker serves one request at a time.
"""

import json

from bench_handlers import BY_NAME

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    result = BY_NAME[scope["path"][1:]](**json.loads(b"".join(parts)))
    answer = _encode(result).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
