"""`python -m bench analysis [--runs N] [--quick]`: the figures of docs/analysis.md, from simulated traffic.

Looks every 10 s for an hour, 10 % of 100 requests/s to the canary, 0.1 % of them failing, unless said otherwise.
Seeded: the same figures each time, whatever the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np

from bench import cost, looks
from bench import methods as m
from bench.lab import table
from davylamp.analysis import blocks, duel, forecast, rare, shares
from davylamp.analysis.kayenta import Settings, classify
from davylamp.analysis.shares import Array

SECONDS = 10
LOOKS = 360
CHUNK = 250
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BEFORE = 3
"""Looks at stable alone, before the canary's first request; used for latency only."""
FOLLOWED = 8
"""Bounds that `davylamp.analysis.latency` would follow for these durations: up to 1 s."""
Method = Callable[[m.Counts], Array]
Random = np.random.Generator


def run(runs: int, quick: bool) -> None:
    count = 200 if quick else runs
    for tau, alpha in ((1.0, 0.05), (1.25, 0.01)):
        detection(count, tau, alpha)
        latencies(count, tau, alpha)
    wrong_ways(count)
    for tau, alpha in ((1.0, 0.05), (1.25, 0.01)):
        cold_start(count, tau, alpha)
    cold_start(count, 1.25, 0.01, 2, 2)
    as_looked_at(count)
    by_pod(count)
    whole_policy(count if quick else 5 * count)
    promotion(count)
    as_fast(min(count, 1000))
    as_kayenta()
    cost.cost()


def traffic(
    draw: Random,
    runs: int,
    p0: Array | float,
    p1: Array | float,
    *,
    rate: Array | float = 100,
    split: Array | float = 0.1,
    size: int = 1,
) -> m.Counts:
    """Poisson requests; failures come one by one, or `size` at a time."""
    shape = (runs, np.size(p0) if np.size(p0) > 1 else LOOKS)
    asked = [
        draw.poisson(np.broadcast_to(np.asarray(rate) * SECONDS * part, shape))
        for part in (1 - np.asarray(split), np.asarray(split))
    ]
    failed = [
        draw.binomial(n, p) if size == 1 else np.minimum(size * draw.poisson(n * p / size), n)
        for n, p in zip(asked, (p0, p1), strict=True)
    ]
    return m.Counts(*asked, *failed)


def measure(runs: int, make: Callable[[Random, int], m.Counts], ways: dict[str, Method]) -> dict[str, Array]:
    """Seconds until each way rejects, for `runs` runs."""
    draw = np.random.default_rng(20)
    found: dict[str, list[Array]] = {name: [] for name in ways}
    for _ in range(0, runs, CHUNK):
        made = make(draw, min(CHUNK, runs))
        for name, way in ways.items():
            found[name].append(way(made) * SECONDS)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def cell(times: Array, never: str = "over an hour") -> str:
    """How many are rejected within the hour; the median and 95th percentile of the time over all runs."""
    share = np.isfinite(times).mean()
    if share < 0.5:
        return f"{100 * share:.3g} %"
    slow = np.sort(times)[int(0.95 * (len(times) - 1))]
    late = f"{slow:.0f}" if np.isfinite(slow) else never
    return f"{100 * share:.4g} %, {np.sort(times)[len(times) // 2]:.0f} s ({late})"


def detection(runs: int, tau: float, alpha: float) -> None:
    quantile = NormalDist().inv_cdf(1 - alpha)
    ways: dict[str, Method] = {
        "Flagger loop": lambda c: m.loop(m.success_rate(c), 6),
        "Kayenta judge": lambda c: m.judge(c.k0 / np.maximum(c.n0, 1), c.k1 / np.maximum(c.n1, 1)),
        "naive z": lambda c: m.naive(c, quantile),
        "(B + C)/2": lambda c: m.crossing(m.mixed(c, tau), alpha),
        "even stakes": lambda c: m.crossing(m.even(c, tau), alpha),
        "Davylamp": lambda c: m.crossing(m.ours(c, tau), alpha),
    }
    cases: list[tuple[str, float, float, float]] = [
        ("A/A", 0.001, 0.001, 100),
        ("A/A, 0.8 %, 20 rps", 0.008, 0.008, 20),
        ("0.1 -> 1 %", 0.001, 0.01, 100),
        ("0.1 -> 0.5 %", 0.001, 0.005, 100),
        ("0.1 -> 0.2 %", 0.001, 0.002, 100),
        ("0.1 -> 1 %, 5 rps", 0.001, 0.01, 5),
    ]
    if tau > 1:
        cases.insert(1, (f"{tau} times, the limit", 0.001, 0.001 * tau, 100))
    rows: list[tuple[str, ...]] = [("", *ways)]
    for name, p0, p1, rate in cases:
        found = measure(runs, lambda d, r, p0=p0, p1=p1, rate=rate: traffic(d, r, p0, p1, rate=rate), ways)  # type: ignore[misc]
        rows.append((name, *(cell(times) for times in found.values())))
    table(f"Rejected within an hour, median (and 95th percentile): tau {tau}, alpha {100 * alpha:g} %", rows)


def durations(
    draw: Random, runs: int, times: float, *, pods: tuple[int, int] = (4, 2), pauses: float = 0.0, spread: float = 0.8
) -> tuple[m.Ints, m.Ints]:
    """Requests in each bucket of stable's and the canary's pods, (runs, looks, pods, buckets).

    Durations are log-normal with a median of 30 ms and `spread`, the sigma of their logarithm; the canary's are `times`
    longer. With the chance `pauses` a fifth of a pod's requests in an interval take more than 1 s.
    """
    normal = NormalDist()

    def chances(scale: float) -> Array:
        below = [normal.cdf(np.log(edge / 0.03 / scale) / spread) for edge in BOUNDS]
        return np.diff([0.0, *below, 1.0])

    def side(rate: float, count: int, scale: float) -> m.Ints:
        asked = draw.poisson(rate * SECONDS / count, (runs, BEFORE + LOOKS, count))
        stuck = draw.binomial(asked, 0.2) * (draw.random(asked.shape) < pauses)
        made = draw.multinomial(asked - stuck, chances(scale))
        made[..., -4] += stuck
        return made

    return side(90, pods[0], 1.0), side(10, pods[1], times)


def slower(buckets: m.Ints) -> Array:
    """Requests slower than each bound that is followed."""
    return np.asarray(buckets.sum(-1, keepdims=True) - np.cumsum(buckets, -1)[..., :FOLLOWED], float)


def by_bounds(stable: m.Ints, canary: m.Ints, tau: float, *, tempered: bool = True) -> Array:
    """Log evidence over time as `davylamp.analysis.latency` computes it: the mean over the bounds."""
    each = slower(stable)
    k0, k1 = each.sum(2), slower(canary).sum(2)
    n0, n1 = (x.sum((2, 3))[..., None] for x in (stable, canary))
    chi, freedom = (np.cumsum(x, 1) for x in blocks.dispersion(each, stable.sum(3)))
    power = blocks.tempering(chi, freedom) if tempered else np.ones(k0.shape)
    n1 = np.where(np.arange(n1.shape[1])[None, :, None] < BEFORE, 0, n1)
    rate = np.full(k0.shape, np.nan)
    slow, asked = np.zeros(k0[:, 0].shape), np.zeros(n0[:, 0].shape)
    for t in range(1, k0.shape[1]):
        slow, asked = 0.9 * slow + k0[:, t - 1], 0.9 * asked + n0[:, t - 1]
        rate[:, t] = (slow + 0.5) / (asked + 1)
    logs = np.cumsum(blocks.logs(k0, k1, n0, n1, tau, rate, power, blocks.WORSE), 1)
    return shares.log_mean(shares.log_mean(logs))[:, BEFORE:]


def by_shares(stable: m.Ints, canary: m.Ints, tau: float) -> Array:
    """The same by betting on shares."""
    k0, k1 = slower(stable).sum(2), slower(canary).sum(2)
    n0, n1 = (x.sum((2, 3))[..., None] for x in (stable, canary))
    return shares.log_mean(shares.log_mean(np.cumsum(shares.worse(k0, k1, n0, n1, tau)[:, BEFORE:], 1)))


def quantile_of(buckets: m.Ints, q: float) -> Array:
    """As Prometheus' histogram_quantile interpolates it, in seconds."""
    total = np.cumsum(buckets, -1)
    rank = q * total[..., -1:]
    place = np.minimum((total < rank).sum(-1), len(BOUNDS) - 1)
    upper, lower = np.array(BOUNDS)[place], np.array([0.0, *BOUNDS])[place]
    below = np.where(place > 0, np.take_along_axis(total, np.maximum(place - 1, 0)[..., None], -1)[..., 0], 0)
    inside = np.take_along_axis(buckets, place[..., None], -1)[..., 0]
    return np.asarray(lower + (upper - lower) * np.clip((rank[..., 0] - below) / np.maximum(inside, 1), 0, 1))


def latencies(runs: int, tau: float, alpha: float) -> None:
    head = ("Flagger loop (p99 500 ms)", "Kayenta judge (p99)", "shares", "blocks, not tempered", "Davylamp")
    rows: list[tuple[str, ...]] = [("", *head)]
    cases = (
        ("A/A", 1.0, 0.0, 0.8),
        ("A/A, pods pause", 1.0, 0.05, 0.8),
        ("x 1.3, sigma 0.5", 1.3, 0.0, 0.5),
        ("x 1.3, sigma 0.8", 1.3, 0.0, 0.8),
        ("x 1.1, sigma 0.8", 1.1, 0.0, 0.8),
    )
    for name, times, pauses, spread in cases:
        draw = np.random.default_rng(21)
        found: list[list[Array]] = [[] for _ in head]
        for _ in range(0, runs, 20):
            stable, canary = durations(draw, 20, times, pauses=pauses, spread=spread)
            before, after = (pods[:, BEFORE:].sum(2) for pods in (stable, canary))
            minutes = after.reshape(20, -1, 6, after.shape[-1]).sum(2)
            found[0].append(m.loop(quantile_of(minutes, 0.99) > 0.5, 6))
            found[1].append(m.judge(quantile_of(before, 0.99), quantile_of(after, 0.99)))
            found[2].append(m.crossing(by_shares(stable, canary, tau), alpha))
            found[3].append(m.crossing(by_bounds(stable, canary, tau, tempered=False), alpha))
            found[4].append(m.crossing(by_bounds(stable, canary, tau), alpha))
        rows.append((name, *(cell(np.concatenate(parts) * SECONDS) for parts in found)))
    table(f"Latency, rejected within an hour: tau {tau}, alpha {100 * alpha:g} %", rows)


def wrong_ways(runs: int) -> None:
    """Each wrong way beside ours, on the same traffic of a canary that is no worse: tau 1, alpha 5 %."""
    hour = np.arange(LOOKS) / LOOKS
    ramp, rising = 0.05 * 10**hour, 0.005 * 5**hour
    late = np.maximum(np.arange(LOOKS) - 90, 0)

    def past(c: m.Counts) -> m.Counts:
        return m.Counts(c.n0[:, late], c.n1, c.k0[:, late], c.k1)

    def configured(c: m.Counts) -> Array:
        return m.plain(c, 1.0, np.full(c.n0.shape, 0.1))

    end = NormalDist().inv_cdf(0.95)
    cases: list[tuple[str, Callable[[Random, int], m.Counts], Method]] = [
        (
            "pooled z, one look at the end of a ramp 5 to 50 %, base rate rising 5 times",
            lambda d, r: traffic(d, r, rising, rising, split=ramp),
            lambda c: np.where(m.z_scores(c)[:, -1] > end, LOOKS, np.inf),
        ),
        (
            "stable as it was 15 minutes ago, base rate rising 5 times",
            lambda d, r: traffic(d, r, rising, rising),
            lambda c: m.crossing(m.plain(past(c), 1.0), 0.05),
        ),
        (
            "configured split (10 %) where 13 % is realised, 1 % failing",
            lambda d, r: traffic(d, r, 0.01, 0.01, split=0.13),
            lambda c: m.crossing(configured(c), 0.05),
        ),
        (
            "retry storms (failures come 5 at a time), likelihood ratios",
            lambda d, r: traffic(d, r, 0.001, 0.001, size=5),
            lambda c: m.crossing(m.plain(c, 1.0), 0.05),
        ),
        (
            "the same, 20 at a time, 1 % failing, (B + C)/2",
            lambda d, r: traffic(d, r, 0.01, 0.01, size=20),
            lambda c: m.crossing(m.mixed(c, 1.0), 0.05),
        ),
    ]
    rows: list[tuple[str, ...]] = [("wrong way", "false rollbacks", "Davylamp")]
    for name, make, wrong in cases:
        found = measure(runs, make, {"wrong": wrong, "ours": lambda c: m.crossing(m.ours(c, 1.0), 0.05)})
        rows.append((name, *(f"{100 * np.isfinite(times).mean():.3g} %" for times in found.values())))
    table("Wrong ways, a canary that is no worse: tau 1, alpha 5 %", rows)


def cold_start(runs: int, tau: float, alpha: float, early: int = 5, late: int = 10) -> None:
    """Ten minutes of a canary whose pods are young in the first, with looks every so many seconds in the first minute
    (`early`) and after it (`late`): cold starts of one that is no worse, and bad ones."""
    lengths = np.repeat([float(early), float(late)], [60 // early, 540 // late])
    ends = np.cumsum(lengths)
    at = ends - lengths
    cases: list[tuple[str, Array]] = [
        ("no worse", np.full(len(at), 0.001)),
        ("cold: 5 % fail for 60 s", np.where(at < 60, 0.05, 0.001)),
        ("cold: 20 %, halved every 10 s", np.where(at < 60, np.maximum(0.2 * 0.5 ** (at / 10), 0.001), 0.001)),
        ("cold: 1 % for 60 s", np.where(at < 60, 0.01, 0.001)),
        ("bad: 1 %", np.full(len(at), 0.01)),
        ("bad: 5 %", np.full(len(at), 0.05)),
    ]
    ways: dict[str, Method] = {
        "counted": lambda c: m.crossing(m.ours(c, tau), alpha),
        "left out while plainly worse": lambda c: m.crossing(m.left_out(c, tau, at), alpha),
        "Davylamp": lambda c: m.crossing(m.kept_aside(c, tau, at, fast=False), alpha),
        "Davylamp, seen to be no slower": lambda c: m.crossing(m.kept_aside(c, tau, at, fast=True), alpha),
    }
    rows: list[tuple[str, ...]] = [("the first minute", *ways)]
    moments = np.array([0.0, *ends, np.inf])
    for name, failing in cases:

        def make(draw: Random, count: int, failing: Array = failing) -> m.Counts:
            return traffic(draw, count, np.full(len(at), 0.001), failing, rate=100 * lengths / SECONDS)

        found = measure(runs, make, ways)
        looked = (np.minimum(times / SECONDS, len(at) + 1).astype(int) for times in found.values())
        rows.append((name, *(cell(moments[places]) for places in looked)))
    every = f"looks every {early} s" + (f" in the first minute and every {late} s after it" if late != early else "")
    table(f"Cold start, {every}, rejected within 10 minutes: tau {tau}, alpha {100 * alpha:g} %", rows)


def as_looked_at(runs: int) -> None:
    """Errors beside latency with the defaults, as the controller looks (`bench.looks`): 5 of 7 of the stake, and
    durations that are no different."""
    ways: dict[str, dict[str, float]] = {
        "every 10 s": {"early": 1, "tense": 1},
        "as it does": {},
        "every 2 s at those times": {"early": 5, "tense": 5},
    }
    cases: dict[str, dict[str, float]] = {
        "0.1 -> 1 %": {"p1": 0.01},
        "the same, no check of latency": {"p1": 0.01, "part": 1},
        "the same, young pods count at once": {"p1": 0.01, "aside": False},
        "0.1 -> 0.5 %": {"p1": 0.005, "seconds": 3600},
        "A/A": {"seconds": 3600},
        "A/A, 1 % of a pod's 10 s are a storm": {"storms": 0.01, "seconds": 3600},
    }
    rows: list[tuple[str, ...]] = [("a release", *ways)]
    for name, case in cases.items():
        found = (looks.found(looks.Case(**case, **way), runs) for way in ways.values())  # type: ignore[arg-type]
        rows.append((name, *(cell(one) for one in found)))
    table("Whole releases, errors beside latency, by when the controller looks: tau 1.25, alpha 1 %", rows)


def by_pod(runs: int) -> None:
    """0.1 % fail, and with a chance of 1 % a pod fails 30 % of an interval's requests: on both versions alike."""
    rows: list[tuple[str, ...]] = [("canary no worse", "likelihood ratios", "(B + C)/2", "Davylamp")]
    for pods in (4, 18):
        for tau, alpha in ((1.0, 0.05), (1.25, 0.01)):
            ways: dict[str, Method] = {
                "plain": lambda c, tau=tau, alpha=alpha: m.crossing(m.plain(c, tau), alpha),  # type: ignore[misc]
                "mixed": lambda c, tau=tau, alpha=alpha: m.crossing(m.mixed(c, tau), alpha),  # type: ignore[misc]
                "ours": lambda c, tau=tau, alpha=alpha: m.crossing(m.ours(c, tau), alpha),  # type: ignore[misc]
            }
            found = measure(runs, lambda draw, each, pods=pods: stormy(draw, each, pods), ways)  # type: ignore[misc]
            rows.append((f"{pods} stable pods, tau {tau}, alpha {100 * alpha:g} %", *map(cell, found.values())))
    table("In 1 % of a pod's intervals 30 % of its requests fail, two canary pods: rejected within an hour", rows)


def stormy(draw: Random, runs: int, stable: int) -> m.Counts:
    def side(pods: int, requests: int) -> m.Ints:
        shape = (runs, LOOKS, pods)
        failed: m.Ints = draw.binomial(requests, np.where(draw.random(shape) < 0.01, 0.3, 0.001)).sum(-1)
        return failed

    full = np.full((runs, LOOKS), 100)
    return m.Counts(9 * full, full, side(stable, 900 // stable), side(2, 50))


def whole_policy(runs: int) -> None:
    """Errors .5, latency .2, logs .2, feedback .1 of the budget; a ramp, a base rate like a day's, retry storms."""
    draw = np.random.default_rng(23)
    steps = np.repeat([0.05, 0.1, 0.25, 0.5], LOOKS // 4)
    base = 0.002 * (1 + 0.8 * np.sin(np.arange(LOOKS) / LOOKS * 2 * np.pi))
    wrong, each = 0, 20
    for _ in range(0, runs, each):
        c = traffic(draw, each, base, base, split=steps, size=3)
        stable, canary = durations(draw, each, 1.0)
        votes = traffic(draw, each, 0.0001, 0.0001, split=steps)
        lines = [logged(draw, each, p) for p in (0.3, 0.05, 0.01)]
        logs = shares.log_mean(np.stack([np.zeros(c.n0.shape), *lines], -1), [0.25, 0.25, 0.25, 0.25])
        parts = [m.ours(c, 1.25), by_bounds(stable, canary, 1.25), logs, m.ours(votes, 1.25)]
        together = shares.log_mean(np.stack(parts, -1), [0.5, 0.2, 0.2, 0.1])
        wrong += int(np.isfinite(m.crossing(together, 0.01)).sum())
    table(
        "Whole policy, A/A, defaults (tau 1.25, alpha 1 %)",
        [("runs", "false rollbacks"), (str(runs), f"{100 * wrong / runs:.3g} %")],
    )


def logged(draw: Random, runs: int, chance: float) -> Array:
    """Log evidence of one template that 8 stable and 2 canary pods write with the same chance."""
    k0, k1 = draw.binomial(8, chance, (runs, LOOKS)), draw.binomial(2, chance, (runs, LOOKS))
    return m.ours(m.Counts(np.full_like(k0, 8), np.full_like(k1, 2), k0, k1), 1.25)


def promotion(runs: int) -> None:
    """GOOD ENOUGH with the defaults: refused at twice stable's rate, reached at stable's, and how long it takes."""
    rows: list[tuple[str, ...]] = [("case", "called good enough within an hour, median (95th percentile)")]
    cases = (
        ("2 times as many, 0.1 -> 0.2 %", 0.001, 2.0, 100),
        ("2 times as many, 1 -> 2 %", 0.01, 2.0, 100),
        ("the same, 1 %", 0.01, 1.0, 100),
        ("the same, 0.1 %", 0.001, 1.0, 100),
        ("the same, 0.1 %, 1,000 requests/s", 0.001, 1.0, 1000),
        ("no failures at all", 0.0, 1.0, 100),
    )
    for name, p0, times, rate in cases:
        make = lambda d, r, p0=p0, p1=p0 * times, rate=rate: traffic(d, r, p0, p1, rate=rate)  # noqa: E731
        found = measure(runs, make, {"": lambda c: m.crossing(in_favour(c), 0.05)})
        rows.append((name, cell(found[""])))
    table("GOOD ENOUGH, errors only: below 2 times stable's or below 0.1 %, beta 5 %", rows)
    foretold(min(runs, 400))


def as_fast(runs: int) -> None:
    """GOOD ENOUGH of the check of latency, by the rate of requests: with durations as stable's, and with twice as many
    requests slower than each bound (or all of them), which is refused."""
    normal = NormalDist()
    above = np.array([1 - normal.cdf(np.log(edge / 0.03) / 0.8) for edge in BOUNDS])
    rows: list[tuple[str, ...]] = [("requests/s", "as fast as stable", "twice as many slow requests")]
    for rate in (1.0, 2.4, 5.0, 10.0, 100.0):
        good, bad = (
            np.concatenate(
                [m.crossing(by_quantile(*sides), 0.05) * SECONDS for sides in timed(rate, above, times, runs)]
            )
            for times in (1.0, 2.0)
        )
        rows.append((f"{rate:g}", cell(good, "over two hours"), f"{100 * np.isfinite(bad).mean():.3g} %"))
    table("GOOD ENOUGH, latency only: below 2 times stable's slow requests, beta 5 %, within two hours", rows)


def timed(rate: float, above: Array, times: float, runs: int) -> Iterator[tuple[m.Ints, m.Ints]]:
    """Two hours of stable's (four pods) and the canary's requests in each bucket, of `runs` runs; `above` are the parts
    of stable's that are slower than each bound."""
    draw = np.random.default_rng(26)
    for _ in range(0, runs, CHUNK):
        made = []
        for part, pods, scale in ((0.9, 4, 1.0), (0.1, 1, times)):
            asked = draw.poisson(part * rate * SECONDS, (min(CHUNK, runs), 2 * LOOKS, 1))
            each = (asked + np.arange(pods)) // pods
            made.append(draw.multinomial(each, np.diff([0.0, *(1 - np.minimum(scale * above, 1)), 1.0])))
        yield made[0], made[1]


def by_quantile(stable: m.Ints, canary: m.Ints, quantile: float = 0.99) -> Array:
    """Log evidence over time that the canary is good enough, as `davylamp.analysis.latency` computes it: at the one
    bound that is chosen once there are 300 requests; nothing before."""
    asked0, asked1 = stable.sum(3), canary.sum((2, 3))
    asked1 = np.where(asked0.any(2), asked1, 0)
    n0 = asked0.sum(2)
    each = (asked0[..., None] - np.cumsum(stable, 3)[..., :-1]).astype(float)
    k0 = each.sum(2)
    k1 = np.where(n0[..., None] > 0, canary.sum((2, 3))[..., None] - np.cumsum(canary.sum(2), 2)[..., :-1], 0)
    run = np.arange(len(n0))
    first = (n0 > 0).argmax(1)
    slow, total = (k0 + k1)[run, first], (n0 + asked1)[run, first]
    followed = (np.arange(len(BOUNDS)) < ((slow > 0).sum(1) + 1)[:, None]) & (slow < total[:, None])
    together = np.cumsum(n0 + asked1, 1)
    chosen = (together >= 300).argmax(1)
    part = np.cumsum(k0 + k1, 1)[run, chosen] / together[run, chosen][:, None]
    reached = followed & (part >= 1 - quantile)
    place = np.where(reached.any(1), reached.shape[1] - 1 - reached[:, ::-1].argmax(1), followed.argmax(1))
    at = (run, slice(None), place)
    chi, freedom = (np.cumsum(x[at], 1) for x in blocks.dispersion(each, asked0))
    rate = np.full(n0.shape, np.nan)
    lately, of = np.zeros(len(n0)), np.zeros(len(n0))
    for t in range(n0.shape[1]):
        rate[:, t] = np.where(of > 0, (lately + 0.5) / (of + 1), np.nan)
        served = n0[:, t] > 0
        lately = np.where(served, 0.9 * lately + k0[at][:, t], lately)
        of = np.where(served, 0.9 * of + n0[:, t], of)
    logs = blocks.logs(k0[at], k1[at], n0, asked1, 2.0, rate, blocks.tempering(chi, freedom), blocks.BETTER)
    begun = np.arange(n0.shape[1]) >= chosen[:, None]
    return shares.log_mean(np.cumsum(np.where(begun[..., None], logs, 0), 1))


def in_favour(c: m.Counts) -> Array:
    ratio = shares.log_mean(np.cumsum(shares.better(c.k0, c.k1, c.n0, c.n1, 2.0), 1))
    harmless = shares.log_mean(np.cumsum(shares.below(c.k1, c.n1, 0.001, rare.CLUSTER), 1))
    return shares.log_mean(np.stack([ratio, harmless], -1))


def foretold(runs: int) -> None:
    """What the forecast says after five minutes, beside what then happens."""
    draw = np.random.default_rng(24)
    claims = rare.Claims(1.25, 2.0, 0.001)
    made = traffic(draw, runs, 0.01, 0.01)
    reached = m.crossing(in_favour(made), 0.05)
    said, happened = [], []
    for n0, n1, k0, k1, end in zip(made.n0, made.n1, made.k0, made.k1, reached, strict=True):
        state = duel.begin()
        for t in range(30):
            now = duel.Round(int(n0[t]), int(n1[t]), int(k0[t]), int(k1[t]), SECONDS)
            state = duel.meet(state, now, claims, settled=True)
        needed = forecast.until_good(state, claims, 0.05)
        if needed and end > 30:
            said.append(needed.seconds)
            happened.append((end - 30) * SECONDS)
    part = float(np.mean(np.array(happened) > np.array(said)))
    table(
        "Forecast after 5 minutes, 1 % failing, canary as good as stable",
        [
            ("releases", "said, median", "happened, median", "took longer than said"),
            (str(len(said)), f"{np.median(said):.0f} s", f"{np.median(happened):.0f} s", f"{100 * part:.0f} %"),
        ],
    )


def as_kayenta() -> None:
    """What the Kayenta-compatible judge says of the samples that its own tests and documentation use."""
    strict = Settings(tolerance=0.10, confidence=0.95)
    effects = Settings(tolerance=0.10, confidence=0.95, allowed_decrease=0.5, allowed_increase=1.0)
    high: list[float] = [20, 22, 21, 25, 30]
    low, few = [1, 2.2, 1.1, 2.5, 3], [10, 12.2, 10.1, 12.5, 23]
    cases: list[tuple[str, list[float], list[float], Settings]] = [
        (f"{high} against {low}", high, low, strict),
        (f"{few} against {high}, effects of 0.5 to 1 allowed", few, high, effects),
        ("10 five times against 1 five times", [10] * 5, [1] * 5, strict),
        ("nothing against [1, 2, 3, 4, 5]", [], [1, 2, 3, 4, 5], strict),
        ("[1, 2, 3, 4, 5] against the same", [1, 2, 3, 4, 5], [1, 2, 3, 4, 5], strict),
    ]
    rows: list[tuple[str, ...]] = [("experiment against control", "label", "ratio of means")]
    for name, experiment, control, settings in cases:
        found = classify(control, experiment, settings)
        rows.append((name, found.label, f"{found.ratio:.6g}" if found.ratio is not None else "none"))
    table("The Kayenta-compatible judge", rows)
