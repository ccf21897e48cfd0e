"""`python -m tfrec` is the `tfrec` program."""
from tfrec.cli import main

if __name__ == "__main__":
    main()
