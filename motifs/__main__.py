"""`python -m motifs` is the `motifs` command; `torchrun -m motifs train ...` starts it in many processes."""

from motifs.cli import main

if __name__ == "__main__":
    main()
