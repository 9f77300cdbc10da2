"""Bug sets: folders of challenges, how they are read, made and proved."""
