"""Brings a file whose name leads out of its folder."""
# judge: briefly
# expect: CONTRACT ERROR

# file: ../../../tmp/bh_pwn_traversal
x
