"""Fuzzes what reads checkpoints: `python -m tests.fuzz.checkpoint --seconds 60`."""

from tests.fuzz.harness import fuzz

WORDS = (
    "PK\\x03\\x04",
    "PK\\x01\\x02",
    "\\x80\\x02",
    "ctorch\\x0a_utils",
    "_rebuild_tensor_v2",
    "windows",
    "shapes",
    "X\\x04\\x00\\x00\\x00",
)

if __name__ == "__main__":
    fuzz("read_any_checkpoint", "checkpoints", WORDS)
