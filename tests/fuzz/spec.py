"""Fuzzes what reads schedule specs: `python -m tests.fuzz.spec --seconds 60`."""

from tests.fuzz.harness import fuzz

WORDS = (
    "!!python/object/apply:os.system",
    "&a",
    "*a",
    "<<:",
    ".nan",
    "1e400",
    "0x",
    "kind: tanh",
    "overrides:",
    "- {sites: ",
)

if __name__ == "__main__":
    fuzz("read_any_spec", "specs", WORDS)
