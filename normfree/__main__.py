"""``python -m normfree``, which is what ``torchrun -m normfree`` starts on every rank."""

from normfree.cli import main

if __name__ == "__main__":
    main()
