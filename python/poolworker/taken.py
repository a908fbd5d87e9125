"""What is taken from Python before user code can replace it, and isn't one name to import, or is needed late."""

from json import JSONDecoder, JSONEncoder
from os import close, pipe, read, set_blocking
from signal import set_wakeup_fd
from time import monotonic

encode_json = JSONEncoder().encode
decode_json = JSONDecoder().decode

__all__ = ["close", "decode_json", "encode_json", "monotonic", "pipe", "read", "set_blocking", "set_wakeup_fd"]
