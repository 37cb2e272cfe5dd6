"""`python -m araio` is `araio`."""

from araio.cli.main import main

if __name__ == "__main__":
    main()
