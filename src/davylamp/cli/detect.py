"""`davy analysis detect`: what metrics the pods have, and which check each would feed."""

from __future__ import annotations

import msgspec
from yarl import URL

from davylamp.api.analysis import Analysis, Scraping
from davylamp.api.objects import Pod
from davylamp.cli.exits import FAILED, NOT_FOUND, OK, Failure
from davylamp.cli.output import Output, rendered
from davylamp.cli.picture import Picture
from davylamp.cli.session import Session, Where, session
from davylamp.controller.measured import container_of
from davylamp.core.start import active
from davylamp.kube.errors import ApiError
from davylamp.signals.conventions import Finding, Names, detect
from davylamp.signals.exposition import BadExposition, decode
from davylamp.signals.policy import names_of
from davylamp.signals.scrape import urls
from davylamp.view.lines import Span, Style, columns


class Detected(msgspec.Struct, frozen=True):
    """What programs read."""

    pod: str
    url: str
    errors: str
    """The metric that `errors` would read, empty for none."""
    latency: str
    findings: tuple[Finding, ...]


async def detected(where: Where, name: str, output: Output | None) -> int:
    """Asks one ready pod by way of the API server; prints what was found."""
    async with session(where) as here:
        picture, workload = await here.workload(name)
        await picture.read_pods(here.namespace, workload)
        found = await ask(here, picture, workload)
        if output in ("json", "yaml"):
            here.screen.say(rendered(found, output))
        else:
            _print(here, found)
        return OK


async def ask(here: Session, picture: Picture, workload: str) -> Detected:
    """What one ready pod shows; its pods must have been read. Raises Failure where none shows metrics."""
    world = picture.world(here.namespace, workload)
    pod = next((pod for pod in picture.pods_of(here.namespace, workload) or () if pod.ready), None)
    if pod is None:
        raise Failure(f"{here.namespace}/{workload}: no pod is ready, so none can be asked", NOT_FOUND)
    analysis = world.policy.spec.analysis if world.policy is not None else None
    running = active(world)
    service = world.services.get(world.traffic.service)
    container = container_of(running[0] if running else None, service)
    scraping = analysis.sources.pods if analysis is not None else Scraping()
    problems = []
    for url in urls(pod.status.pod_ip or "pod", container.ports, pod.metadata.annotations, scraping):
        try:
            return await _detected(here, pod, url, analysis)
        except (ApiError, BadExposition) as error:
            problems.append(f"{URL(url).port}{URL(url).path}: {error}")
    why = "; ".join(problems) or "it names no port on which they could be; the policy can, in sources.pods.port"
    raise Failure(f"pod {pod.metadata.name} shows no metrics: {why}", FAILED)


async def _detected(here: Session, pod: Pod, url: str, analysis: Analysis | None) -> Detected:
    place = URL(url)
    body = await here.api.ask_pod(here.namespace, pod.metadata.name, place.port or 80, place.path)
    choice = detect(decode(body, "text/plain"), _names(analysis))
    return Detected(
        pod.metadata.name,
        f":{place.port}{place.path}",
        choice.errors.requests if choice.errors is not None else "",
        choice.latency.latency if choice.latency is not None else "",
        choice.findings,
    )


def _names(analysis: Analysis | None) -> Names:
    """Those that the policy gives for its errors and its latency."""
    given = Names()
    for check in analysis.checks if analysis is not None else ():
        one = names_of(check)
        if check.errors is not None:
            given = msgspec.structs.replace(given, requests=one.requests, failures=one.failures, failed=one.failed)
        elif check.latency is not None:
            given = msgspec.structs.replace(given, latency=one.latency, unit=one.unit)
    return given


def _print(here: Session, found: Detected) -> None:
    here.screen.say(f"pod {found.pod}, {found.url}")
    rows = [[Span(title, "dim") for title in ("METRIC", "SERIES", "FEEDS", "WHY")]]
    for one in found.findings:
        style: Style = "good" if one.check else ""
        rows.append([Span(one.metric), Span(str(one.series)), Span(one.check or "-", style), Span(one.why)])
    here.screen.print(columns(rows))
    for check, metric in (("errors", found.errors), ("latency", found.latency)):
        if not metric:
            here.screen.say(f"nothing feeds {check}: name a metric in the policy, or leave the check out")
