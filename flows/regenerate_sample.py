"""Makes one published image again, alone, from what its version says of it."""
