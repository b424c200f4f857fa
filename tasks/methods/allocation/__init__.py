"""Spend images where recall rises: what a class gains per image, which class is next, when to end, what is kept."""
