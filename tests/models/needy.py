import absent  # type: ignore[import-not-found]  # noqa: F401
