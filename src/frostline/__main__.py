"""`python -m frostline` and the command `frostline`."""

from frostline.cli import main

if __name__ == "__main__":
    main()
