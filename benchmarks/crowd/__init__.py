"""A crowd for a competition: a long log, clients that cost little, servers and databases of their own."""
