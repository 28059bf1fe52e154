"""``python -m raddino``, which ``torchrun -m raddino`` starts in every process."""

from raddino.cli import main

main()
