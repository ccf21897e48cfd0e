"""`python -m tfrec` is the `tfrec` program."""
from tfrec.cli.app import main

if __name__ == "__main__":
    main()
