"""Raw data that the judge makes from a seed, shared by the tasks of several reference programs."""
