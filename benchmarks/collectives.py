r"""How long collective operations take, and how much of that is hidden behind computation.

A message of n bytes among p devices, over links of bandwidth β (bytes a second in each direction)
and latency α:

.. math::
    T_{\text{all-gather}} = T_{\text{reduce-scatter}} = \alpha_0 + (p - 1)\Big(\alpha
        + \frac{n}{p\,\beta}\Big), \qquad
    T_{\text{all-reduce}} = 2\,T_{\text{all-gather}} - \alpha_0

Between machines of g devices, both are done in two levels: within a machine first (last), then
among the devices of the same number in m machines, which hold n / g bytes each, and may share the
machine's way out.

Source: Thakur, Rabenseifner and Gropp (2005), *Optimization of Collective Communication Operations
in MPICH*, for the ring; NCCL's ``tuning.cc`` for the latencies of a ring's steps.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """A kind of connection.

    Args:
        name: for people.
        bandwidth: bytes a second in one direction, as its maker states.
        latency: seconds of one step of a ring.
        source: where the numbers are from.
        shared: whether all devices of a machine share it.
    """

    name: str
    bandwidth: float
    latency: float
    source: str
    shared: bool = False


_STEP = "a ring's step with NCCL's Simple protocol: hwLat in its src/graph/tuning.cc"
LINKS = {
    "nvlink4": Link(
        "NVLink 4",
        450e9,
        3.4e-6,
        f"NVIDIA H100 datasheet: 900 GB/s in both directions; {_STEP}",
    ),
    "pcie5": Link(
        "PCIe 5 x16",
        63e9,
        5.7e-6,
        f"PCI Express 5.0: 32 GT/s, 16 lanes, 128b/130b; {_STEP}",
    ),
    "ndr": Link(
        "InfiniBand NDR 400",
        50e9,
        9.6e-6,
        f"NVIDIA ConnectX-7 datasheet: 400 Gb/s, one adapter for each device; {_STEP}",
    ),
    "100gbe": Link(
        "100 GbE", 12.5e9, 30e-6, "IEEE 802.3ba; latency of TCP between hosts: assumed", shared=True
    ),
    "10gbe": Link(
        "10 GbE", 1.25e9, 30e-6, "IEEE 802.3ae; latency of TCP between hosts: assumed", shared=True
    ),
}

START = 8.4e-6
"""α₀: seconds that a collective operation takes to start, baseLat in NCCL's tuning.cc."""

REACHED = 0.8
"""Share of a link's bandwidth that collective operations reach: assumed."""


@dataclass(frozen=True)
class Cluster:
    """Equal machines.

    Args:
        devices: of all machines.
        inside: the link between devices of a machine.
        between: the link between machines.
        per_machine: devices of a machine.
    """

    devices: int
    inside: Link
    between: Link
    per_machine: int = 8

    @property
    def local(self) -> int:
        """Devices that communicate inside a machine."""
        return min(self.devices, self.per_machine)

    @property
    def machines(self) -> int:
        """How many."""
        return -(-self.devices // self.per_machine)

    def gather(self, size: float) -> float:
        """Seconds of an all-gather or a reduce-scatter of so many bytes, over all devices."""
        return START + self._ring(size)

    def reduce(self, size: float) -> float:
        """Seconds of an all-reduce of so many bytes, over all devices."""
        return START + 2 * self._ring(size)

    def _ring(self, size: float) -> float:
        out = self.between.bandwidth / (self.local if self.between.shared else 1)
        return ring(size, self.local, self.inside.bandwidth, self.inside.latency) + ring(
            size / self.local, self.machines, out, self.between.latency
        )


def ring(size: float, count: int, bandwidth: float, latency: float) -> float:
    """Seconds in which each of ``count`` devices passes on its share, until all have all.

    >>> ring(8e9, 4, bandwidth=1e9 / REACHED, latency=0.5)  # three steps of 2 GB
    7.5
    """
    return (count - 1) * (latency + size / count / (bandwidth * REACHED))


def hidden_behind(compute: float, communicate: float, parts: int) -> float:
    r"""Seconds of computing in equal parts, each of which is sent while the next is computed.

    .. math:: \max\big(C + c,\ \tfrac{C}{b} + b\,c\big), \qquad c = \text{seconds of one of } b
        \text{ parts}

    Args:
        compute: C, all parts.
        communicate: all parts.
        parts: b.

    >>> hidden_behind(compute=8, communicate=4, parts=4)  # the last part of 1 s is not hidden
    9.0
    >>> hidden_behind(compute=4, communicate=8, parts=4)  # the first part of computing is not
    9.0
    """
    return max(compute + communicate / parts, compute / parts + communicate)


def fetched_ahead(compute: float, communicate: float, parts: int) -> float:
    """Seconds of computing in equal parts, each of which needs what is communicated before it.

    One part is communicated while the one before is computed; the first has to be waited for.

    >>> fetched_ahead(compute=8, communicate=4, parts=4)
    9.0
    """
    return hidden_behind(communicate, compute, parts)
