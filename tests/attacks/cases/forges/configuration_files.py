"""Brings configuration of pytest and of the interpreter."""

# file: pytest.ini
[pytest]
addopts = --collect-only
# file: sitecustomize.py
print("GOT:sitecustomize")
# file: usercustomize.py
print("GOT:usercustomize")
