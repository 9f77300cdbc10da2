"""Builds a bigger model."""
# judge: fully

class Big(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 256), nn.Linear(256, 1)

    def forward(self, x):
        return self.b(torch.relu(self.a(x))).squeeze(-1)


def build(cfg):
    return Big()
