"""``python -m atlas8k``: the command, for launchers that want a module."""

from atlas8k.cli import main

if __name__ == "__main__":
    main()
