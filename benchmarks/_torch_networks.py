"""The same networks in PyTorch, one step for each line that comes in; the peer of `benchmarks.training`.

Runs under an interpreter that has PyTorch and nothing of inzitu: ``python _torch_networks.py NETWORK BATCH cpu|cuda``.
"""
# mypy: ignore-errors

import functools
import os
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


class DcmdnA(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.edge, side = (28 - size) // 2, ((size - 2) // 2 - 1) // 2 - 1
        self.first, self.second, self.third = nn.Conv2d(15, 256, 3), nn.Conv2d(256, 512, 2), nn.Conv2d(512, 1024, 2)
        self.dense = nn.Sequential(
            nn.Linear(1024 * side**2, 500), nn.Tanh(), nn.Linear(500, 100), nn.Tanh(), nn.Linear(100, 15)
        )

    def forward(self, images):
        bands = images[:, :, self.edge : 28 - self.edge, self.edge : 28 - self.edge].unbind(1)
        pairs = [bands[a] - bands[b] for a in range(5) for b in range(a + 1, 5)]
        values = torch.stack([*bands, *pairs], 1).contiguous(memory_format=torch.channels_last)
        values = torch.tanh(F.max_pool2d(self.first(values), 2))
        values = torch.tanh(F.max_pool2d(self.second(values), 2))
        return self.dense(torch.relu(self.third(values)).flatten(1))


def rectified(inputs, outputs, size):
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, padding="same"), nn.PReLU(outputs))


class Inception(nn.Module):
    def __init__(self, inputs, narrow, wide, fives):
        super().__init__()
        branches = [rectified(inputs, wide, 1)]
        branches += [
            nn.Sequential(rectified(inputs, narrow, 1), rectified(narrow, wide, size))
            for size in ((5, 3) if fives else (3,))
        ]
        self.branches, self.pooled = nn.ModuleList(branches), rectified(inputs, narrow, 1)

    def forward(self, values):
        smooth = F.avg_pool2d(F.pad(self.pooled(values), (0, 1, 0, 1)), 2, 1)
        return torch.cat([*(branch(values) for branch in self.branches), smooth], 1)


class Pasquet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, channels, blocks = rectified(5, 64, 5), 64, []
        for narrow, wide, fives in ((48, 64, 1), (64, 92, 1), (92, 128, 1), (92, 128, 1), (92, 128, 0)):
            blocks.append(Inception(channels, narrow, wide, fives))
            channels = wide * (3 if fives else 2) + narrow
        self.blocks = nn.ModuleList(blocks)
        self.dense = nn.Sequential(
            nn.Linear(64 * channels, 1096), nn.ReLU(), nn.Linear(1096, 1096), nn.ReLU(), nn.Linear(1096, 180)
        )

    def forward(self, images):
        values = F.avg_pool2d(self.first(images), 2)
        for level, block in enumerate(self.blocks):
            values = block(values)
            if level in (1, 3):
                values = F.avg_pool2d(values, 2)
        return self.dense(values.flatten(1))


def negative_log_likelihood(raw, z):
    if raw.shape[1] == 180:
        return F.cross_entropy(raw, (z * 180).long())
    logits, means, logs = raw.chunk(3, 1)
    each = torch.log_softmax(logits, 1) - 0.5 * ((z[:, None] - means) / logs.exp()) ** 2 - logs
    return -torch.logsumexp(each, 1).mean()


def main(name, batch, device):
    torch.set_num_threads(os.cpu_count())
    makers = {"dcmdn-a": lambda: DcmdnA(16), "dcmdn-a, all 28 x 28": lambda: DcmdnA(28), "pasquet": Pasquet}
    network, size = makers[name](), 64 if name == "pasquet" else 28
    network = network.to(device, memory_format=torch.channels_last)
    images = torch.randn(batch, 5, size, size).to(device, memory_format=torch.channels_last)
    z = torch.rand(batch, device=device)
    fast = device == "cuda"
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=fast)
    # On an accelerator as fast as it goes there: compiled, products in bfloat16, everything else in float32.
    forward = torch.compile(network) if fast else network
    precision = functools.partial(torch.autocast, device, torch.bfloat16, enabled=fast)

    def train():
        optimiser.zero_grad()
        with precision():
            raw = forward(images)
        negative_log_likelihood(raw.float(), z).backward()
        optimiser.step()

    def predict():
        with torch.inference_mode(), precision():
            forward(images)

    for line in sys.stdin:
        what, count = line.split()
        began = time.perf_counter()
        for _ in range(int(count)):
            {"train": train, "predict": predict}[what]()
        if fast:
            torch.cuda.synchronize()
        print(int(count) * batch / (time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
