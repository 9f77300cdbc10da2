"""Team competitions: a log of events, the board as a fold of it, a queue of judgements, and pages."""
