"""An echo of bytes. The worker's codec is put out of its way, and all else is as it is: what remains is the pool."""

from poolworker import codec, command

codec.decode_arguments = lambda payload: {"value": payload}
codec.encode_result = lambda _command, value: value


@command
def echo(value):
    return value
