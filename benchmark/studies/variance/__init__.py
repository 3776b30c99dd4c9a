"""Where the instability of labels comes from."""
