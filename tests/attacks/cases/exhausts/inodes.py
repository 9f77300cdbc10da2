"""Makes files without end."""
# judge: briefly

made = 0
try:
    for number in range(20_000):
        open(f"bh_pwn_{number}", "w").close()
        made += 1
    print("GOT:files", made)
except OSError:
    pass
