"""What teachers said, kept on disk: by teacher, context, response and request."""

from tutelage.scores.disk import DiskStore, Verified
from tutelage.scores.encoding import ERROR_NATS, Entry, decode_top, encode_top
from tutelage.scores.key import Request, key_of
from tutelage.scores.settings import ScoreCache
from tutelage.scores.shards import Shard
from tutelage.scores.store import MemoryStore, ScoreStore

__all__ = [
    "ERROR_NATS",
    "DiskStore",
    "Entry",
    "MemoryStore",
    "Request",
    "ScoreCache",
    "ScoreStore",
    "Shard",
    "Verified",
    "decode_top",
    "encode_top",
    "key_of",
]
