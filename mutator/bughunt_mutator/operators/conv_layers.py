"""Mistakes in the settings of convolutions, of pooling and of upsampling."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import last_name, number, orphans
from bughunt_mutator.operators._sources import TAXONOMY
from bughunt_mutator.source import SourceFile

LAYERS = frozenset(f"torch.nn.Conv{rank}d" for rank in (1, 2, 3))
FUNCTIONS = frozenset(f"torch.nn.functional.conv{rank}d" for rank in (1, 2, 3))
PLACES = {"stride": (3, 3), "padding": (4, 4), "dilation": (5, 5), "groups": (6, 6)}


def setting(f: SourceFile, call: cst.Call, name: str) -> cst.Arg | None:
    """The argument of a convolution that gives its stride, padding, dilation or groups."""
    layer, function = PLACES[name]
    return f.arg(call, name, layer if f.qname(call.func) in LAYERS else function)


def is_convolution(f: SourceFile, call: cst.Call) -> bool:
    return f.qname(call.func) in LAYERS | FUNCTIONS


@operator(
    "same-padding-off",
    cst.Call,
    category="conv",
    difficulty=1,
    symptom="It stops because sizes do not fit, or maps are smaller than they should be.",
    hints=(
        "LOOK: print the height and width of the maps after each layer.",
        "WHERE: the settings of the layers in `{function}`.",
        "WHAT: how many places does a kernel of this size lose at the edge?",
    ),
    repair="Pad by half of the kernel on each side.",
    mechanism=(
        "Without padding a kernel fits in fewer places than there are pixels, so each layer trims"
        " the edge. Where sizes need not agree nothing stops, but what is at the border is lost."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="same-padding-off",
            before="from torch import nn\nc = nn.Conv2d(3, 8, k, padding=k // 2)\n",
            after=("from torch import nn\nc = nn.Conv2d(3, 8, k)\n",),
        ),
        Example(
            before="from torch.nn import functional as F\ny = F.conv2d(x, w, b, 2, 1)\n",
            after=("from torch.nn import functional as F\ny = F.conv2d(x, w, b, 2, 0)\n",),
        ),
        Example(
            before='from torch import nn\nc = nn.Conv1d(3, 8, 5, padding="same")\n',
            after=("from torch import nn\nc = nn.Conv1d(3, 8, 5)\n",),
        ),
    ),
    counterexamples=(
        "from torch import nn\nc = nn.Conv2d(3, 8, 3, padding=0)\n",
        "c = Conv2d(3, 8, 3, padding=1)\n",
    ),
)
def same_padding_off(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    given = setting(f, node, "padding") if is_convolution(f, node) else None
    if given is None or number(given.value) == 0 or orphans(f, given.value):
        return
    if given.keyword is not None:
        yield Proposal(edits=(f.delete_arg(node, given),))
    else:
        yield Proposal(edits=(f.replace(given.value, "0"),))


@operator(
    "stride-dilation-swapped",
    cst.Call,
    category="conv",
    difficulty=3,
    symptom="It is slower than it should be, and the maps have another size than expected.",
    hints=(
        "LOOK: print the height and width of the maps after each layer.",
        "WHERE: the settings of the layers in `{function}`.",
        "WHAT: should the kernel take larger steps, or should it have holes?",
    ),
    repair="Set the step with `stride` and the holes with `dilation`.",
    mechanism=(
        "A stride skips places of the output, dilation spreads the taps over the input. Exchanged,"
        " the map keeps its size and costs more, while the kernel sees a coarser picture."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="stride-dilation-swapped",
            before="from torch import nn\nc = nn.Conv2d(3, 8, 3, stride=2, padding=1)\n",
            after=("from torch import nn\nc = nn.Conv2d(3, 8, 3, dilation=2, padding=1)\n",),
        ),
        Example(
            before="from torch import nn\nc = nn.Conv1d(3, 8, 3, stride=s, dilation=d)\n",
            after=("from torch import nn\nc = nn.Conv1d(3, 8, 3, stride=d, dilation=s)\n",),
        ),
        Example(
            before="from torch import nn\nc = nn.Conv2d(3, 8, 3, 2, 1)\n",
            after=("from torch import nn\nc = nn.Conv2d(3, 8, 3, 1, 1, dilation=2)\n",),
        ),
    ),
    counterexamples=(
        "from torch import nn\nc = nn.Conv2d(3, 8, 3, stride=1)\n",
        "from torch import nn\nc = nn.Conv2d(3, 8, 3, stride=2, dilation=2)\n",
        "from torch import nn\nc = nn.Conv2d(3, 8, 1, stride=2)\n",
    ),
)
def stride_dilation(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if not is_convolution(f, node):
        return
    kernel = f.arg(node, "kernel_size", 2) if f.qname(node.func) in LAYERS else None
    if kernel is not None and number(kernel.value) == 1:
        return
    stride, dilation = setting(f, node, "stride"), setting(f, node, "dilation")
    if stride is not None and dilation is not None:
        yield Proposal(edits=f.swap(stride.value, dilation.value))
        return
    one = stride or dilation
    if one is None or number(one.value) == 1:
        return
    other = "dilation" if one is stride else "stride"
    if one.keyword is not None:
        yield Proposal(edits=(f.replace(one.keyword, other),))
    else:
        new = f.insert_arg(node, f"{other}={f.text(one.value)}")
        yield Proposal(edits=(f.replace(one.value, "1"), new))


@operator(
    "groups-wrong",
    cst.Call,
    category="conv",
    difficulty=3,
    symptom="It learns, but less than a model of this size should.",
    hints=(
        "LOOK: count the weights of each layer.",
        "WHERE: the settings of the layers in `{function}`.",
        "WHAT: which input channels can an output channel see?",
    ),
    repair="Choose the number of groups that the architecture asks for.",
    mechanism=(
        "With as many groups as channels, each channel is filtered by itself and never meets"
        " another; with one group all are mixed. The first is far weaker, the second far larger."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="groups-wrong",
            before="from torch import nn\nc = nn.Conv2d(width, width, 3, padding=1)\n",
            after=("from torch import nn\nc = nn.Conv2d(width, width, 3, padding=1, groups=width)\n",),
        ),
        Example(
            before="from torch import nn\nc = nn.Conv2d(16, 16, 3, groups=16)\n",
            after=("from torch import nn\nc = nn.Conv2d(16, 16, 3)\n",),
        ),
        Example(
            before="from torch import nn\nc = nn.Conv1d(4, 12, 3)\n",
            after=("from torch import nn\nc = nn.Conv1d(4, 12, 3, groups=4)\n",),
        ),
    ),
    counterexamples=(
        "from torch import nn\nc = nn.Conv2d(3, width, 3)\n",
        "from torch import nn\nc = nn.Conv2d(1, 8, 3)\n",
        "from torch import nn\nc = nn.Conv2d(4, 8, 3, groups=1)\n",
    ),
)
def groups_wrong(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if f.qname(node.func) not in LAYERS:
        return
    inward, outward = f.arg(node, "in_channels", 0), f.arg(node, "out_channels", 1)
    groups = setting(f, node, "groups")
    if inward is None or outward is None or any(each.star for each in node.args):
        return
    if groups is not None:
        if groups.keyword is not None and number(groups.value) != 1 and not orphans(f, groups.value):
            yield Proposal(edits=(f.delete_arg(node, groups),))
        return
    width, out = number(inward.value), number(outward.value)
    same = f.text(inward.value) == f.text(outward.value)
    if width != 1 and (same or (width and out and out % width == 0)):
        yield Proposal(edits=(f.insert_arg(node, f"groups={f.text(inward.value)}"),))


POOLS = {
    "max_pool": "avg_pool",
    "avg_pool": "max_pool",
    "adaptive_max_pool": "adaptive_avg_pool",
    "adaptive_avg_pool": "adaptive_max_pool",
    "MaxPool": "AvgPool",
    "AvgPool": "MaxPool",
    "AdaptiveMaxPool": "AdaptiveAvgPool",
    "AdaptiveAvgPool": "AdaptiveMaxPool",
}
COMMON = ("kernel_size", "stride", "padding", "output_size", "input", "ceil_mode")


@operator(
    "pool-max-avg",
    cst.Call,
    category="conv",
    difficulty=3,
    symptom="The result is a little worse; everything else looks right.",
    hints=(
        "LOOK: feed in a map with one bright pixel and look at what comes out.",
        "WHERE: how `{function}` makes maps smaller.",
        "WHAT: should a window report its strongest value, or its typical one?",
    ),
    repair="Pool in the way that the architecture asks for.",
    mechanism=(
        "The maximum keeps what was found anywhere in the window, the mean dilutes it with all that"
        " was not. Each suits other layers, and a network can live with the wrong one."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="pool-max-avg",
            before="from torch.nn import functional as F\ny = F.max_pool2d(x, 2)\n",
            after=("from torch.nn import functional as F\ny = F.avg_pool2d(x, 2)\n",),
        ),
        Example(
            before="from torch import nn\np = nn.AdaptiveAvgPool2d(1)\n",
            after=("from torch import nn\np = nn.AdaptiveMaxPool2d(1)\n",),
        ),
    ),
    counterexamples=(
        "from torch.nn import functional as F\ny = F.max_pool2d(x, 2, return_indices=True)\n",
        "from torch.nn import functional as F\ny = F.max_pool2d(x, 1)\n",
        "y = max_pool2d(x, 2)\n",
    ),
)
def pool_swapped(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    home, _, name = (f.qname(node.func) or "").rpartition(".")
    other = POOLS.get(name[:-2])
    if other is None or not isinstance(node.func, cst.Attribute) or not home.startswith("torch.nn"):
        return
    size = f.arg(node, "kernel_size", 1 if home.endswith("functional") else 0)
    trivial = size is not None and number(size.value) == 1 and "daptive" not in name
    plain = all(each.keyword is None or each.keyword.value in COMMON for each in node.args)
    if plain and len(node.args) <= 4 and not trivial:
        yield Proposal(edits=(f.replace(node.func.attr, other + name[-2:]),))


@operator(
    "convtranspose-output-padding",
    cst.Call,
    category="conv",
    difficulty=2,
    symptom="It stops because two maps differ in size by one, or comes out a pixel short.",
    hints=(
        "LOOK: print the sizes of the maps on the way down and on the way up.",
        "WHERE: the layers that enlarge in `{function}`.",
        "WHAT: which sizes lead to the same size when they are halved?",
    ),
    repair="Say which of the possible sizes is meant.",
    mechanism=(
        "With a stride of two, maps of 2n and of 2n - 1 pixels shrink to the same size, so the way"
        " back is ambiguous. Unless told, the layer takes the smaller one."
    ),
    evidence=("https://stackoverflow.com/questions/54417736", TAXONOMY),
    examples=(
        Example(
            row="convtranspose-output-padding",
            before="from torch import nn\nu = nn.ConvTranspose2d(8, 4, 3, 2, padding=1, output_padding=1)\n",
            after=("from torch import nn\nu = nn.ConvTranspose2d(8, 4, 3, 2, padding=1)\n",),
        ),
        Example(
            before="from torch.nn import functional as F\ny = F.conv_transpose2d(x, w, b, 2, 1, 1)\n",
            after=("from torch.nn import functional as F\ny = F.conv_transpose2d(x, w, b, 2, 1, 0)\n",),
        ),
    ),
    counterexamples=(
        "from torch import nn\nu = nn.ConvTranspose2d(8, 4, 3, output_padding=0)\n",
        "from torch import nn\nu = nn.ConvTranspose2d(8, 4, 2, stride=2)\n",
    ),
)
def output_padding_off(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    name = f.qname(node.func) or ""
    if not name.startswith(("torch.nn.ConvTranspose", "torch.nn.functional.conv_transpose")):
        return
    given = f.arg(node, "output_padding", 5)
    if given is None or number(given.value) == 0 or orphans(f, given.value):
        return
    if given.keyword is not None:
        yield Proposal(edits=(f.delete_arg(node, given),))
    else:
        yield Proposal(edits=(f.replace(given.value, "0"),))


@operator(
    "upsample-align-corners",
    cst.Call,
    category="conv",
    difficulty=4,
    symptom="The result is blurred a little, or shifted by less than a pixel.",
    hints=(
        "LOOK: enlarge a ramp of numbers and compare with the ramp that you expect.",
        "WHERE: where `{function}` thinks that pixels are.",
        "WHAT: is a pixel a point at the corner of the grid, or a square within it?",
    ),
    repair="Use the same convention of coordinates everywhere.",
    mechanism=(
        "In one convention the outermost pixels lie on the border, in the other they lie half a"
        " pixel inside. Mixed, everything is shifted, most of all near the edge."
    ),
    evidence=(),
    examples=(
        Example(
            row="upsample-align-corners",
            before=(
                "from torch.nn import functional as F\n"
                'y = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)\n'
            ),
            after=(
                "from torch.nn import functional as F\n"
                'y = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)\n',
            ),
        ),
        Example(
            before='from torch import nn\nu = nn.Upsample(size=9, mode="bilinear")\n',
            after=('from torch import nn\nu = nn.Upsample(size=9, mode="bilinear", align_corners=True)\n',),
        ),
        Example(
            before="from torch.nn import functional as F\ny = F.grid_sample(x, g, align_corners=True)\n",
            after=("from torch.nn import functional as F\ny = F.grid_sample(x, g, align_corners=False)\n",),
        ),
    ),
    counterexamples=(
        'from torch.nn import functional as F\ny = F.interpolate(x, size=9, mode="nearest")\n',
        "from torch.nn import functional as F\ny = F.interpolate(x, size=9)\n",
    ),
)
def align_corners(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    place = {
        "torch.nn.functional.interpolate": 4,
        "torch.nn.Upsample": 3,
        "torch.nn.functional.grid_sample": 4,
        "torch.nn.functional.affine_grid": 2,
    }.get(f.qname(node.func) or "")
    if place is None:
        return
    given = f.arg(node, "align_corners", place)
    if given is not None:
        new = {"True": "False", "False": "True"}.get(last_name(given.value))
        if new is not None:
            yield Proposal(edits=(f.replace(given.value, new),))
        return
    grid = place == 2 or (f.qname(node.func) or "").endswith("grid_sample")
    mode = f.arg(node, "mode", place - 1)
    smooth = mode is not None and f.text(mode.value).strip("\"'").endswith(("linear", "cubic"))
    if grid or smooth:
        yield Proposal(edits=(f.insert_arg(node, "align_corners=True"),))
