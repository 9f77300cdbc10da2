"""Team competitions over the judge; the server comes with a later release."""
