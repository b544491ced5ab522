"""What frozen layers compute is computed once, and heads on it train together."""
