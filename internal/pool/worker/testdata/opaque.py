"""Commands whose arguments and results are bytes, as they come: the codec is put out of the way."""

from poolworker import codec, command

codec.decode_arguments = lambda payload: {"payload": payload}
codec.encode_result = lambda _command, value: value


@command
def echo(payload):
    return payload


@command
def take(payload):
    return b"1"


_made = {}


@command
def give(payload):
    """As many bytes as the payload's digits say."""
    if payload not in _made:
        _made[payload] = b"x" * int(payload)
    return _made[payload]
