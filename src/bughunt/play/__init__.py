"""The player's side: workspace, log, hints and the next challenge."""
