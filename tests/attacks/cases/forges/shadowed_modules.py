"""Brings modules of the names of those that the worker uses."""

# file: torch.py
print("GOT:torch")
# file: json.py
print("GOT:json")
# file: bughunt.py
print("GOT:bughunt")
