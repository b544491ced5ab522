"""Brain masks that are not made here: those that users have, and those of installed programs."""
