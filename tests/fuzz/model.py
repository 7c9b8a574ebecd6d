"""Fuzzes what reads model files: `python -m tests.fuzz.model --seconds 60`."""

from tests.fuzz.harness import fuzz

WORDS = ("frostline", "BinaryConv", "Binarize", "kernel_shape", "inputs", "site", "location", "../")

if __name__ == "__main__":
    fuzz("read_any_model", "models", WORDS)
