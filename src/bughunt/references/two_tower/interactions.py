"""Events in order of time, and what is known of a user before each.

Shapes: M events, U users, I items, R recent picks.
"""

import torch
from torch import Tensor

NOTHING = -1  # where there was no earlier pick

Events = dict[str, Tensor]  # user [M], item [M], time [M]


def in_order(events: Events) -> Events:
    """By user, then by time."""
    by_time = events["time"].argsort(stable=True)
    by_user = events["user"][by_time].argsort(stable=True)
    order = by_time[by_user]
    return {name: values[order] for name, values in events.items()}


def split_by_time(events: Events, latest: int) -> tuple[Events, Events]:
    """The last `latest` events of each user apart from those before."""
    events = in_order(events)
    user = events["user"]
    after = torch.bincount(user).cumsum(dim=0)[user]  # [M], where the next user begins
    late = after - torch.arange(len(user), device=user.device) <= latest
    past = {name: values[~late] for name, values in events.items()}
    return past, {name: values[late] for name, values in events.items()}


def recent_before(events: Events, count: int) -> Tensor:  # -> [M, R]
    """For events in order the picks of the same user before each, the latest first."""
    user, item = events["user"], events["item"]
    columns = []
    for back in range(1, count + 1):
        earlier, same = torch.full_like(item, NOTHING), torch.zeros_like(user, dtype=torch.bool)
        earlier[back:] = item[:-back]
        same[back:] = user[back:] == user[:-back]
        columns.append(torch.where(same, earlier, NOTHING))
    return torch.stack(columns, dim=1)


def recent_at_end(events: Events, users: int, count: int) -> Tensor:  # -> [U, R]
    """The latest picks of each user, the latest first."""
    user, item = events["user"], events["item"]
    table = torch.full((users, count), NOTHING, dtype=torch.long, device=item.device)
    position = torch.bincount(user, minlength=users).cumsum(dim=0)[user]
    back = position - 1 - torch.arange(len(user), device=user.device)  # 0 for the latest
    kept = back < count
    table[user[kept], back[kept]] = item[kept]
    return table


def seen(events: Events, users: int, items: int) -> Tensor:  # -> [U, I]
    """Which items each user has picked."""
    table = torch.zeros(users, items, dtype=torch.bool, device=events["user"].device)
    table[events["user"], events["item"]] = True
    return table


def log_frequency(item: Tensor, items: int) -> Tensor:  # [M] -> [I]
    """The logarithm of how often each item turns up in a batch; one that never does counts half."""
    counts = torch.bincount(item, minlength=items).clamp(min=0.5)
    return (counts / len(item)).log()
