"""deploy/, set up as an operator does, and used."""
