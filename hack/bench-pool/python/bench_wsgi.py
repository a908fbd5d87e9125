"""The handlers as a WSGI application, for gunicorn and uWSGI: the command is the path, JSON in, JSON out."""

import json

from bench_handlers import BY_NAME

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def application(environ, start_response):
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    result = BY_NAME[environ["PATH_INFO"][1:]](**json.loads(body))
    answer = _encode(result).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]
