"""Learning from another detector: its answers as targets, corrected by labels where those know more."""
