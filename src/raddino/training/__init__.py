"""The training loop and what it needs: optimiser, schedules, checkpoints, monitors, and its own proof."""
