"""`python -m dingo` is the `dingo` command."""

from dingo.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
