"""Pictures: curves, confusion, contact sheets, attention on frames."""
