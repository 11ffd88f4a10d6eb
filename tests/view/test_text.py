"""What a person reads of a workload, in each situation."""

from __future__ import annotations

from datetime import UTC, timedelta

import msgspec
import pytest

from davylamp.view.lines import Look
from tests.view import situations
from tests.view.situations import LOOK, Situation, in_step, text

SAID = '"fatal: no database"'
CRASH = (
    "container hellok8s of pod web-bc87ce785f-1-34 crashed with exit code 137 and was restarted 2 times; "
    f"its last words: {SAID}"
)
RESUME = "`kubectl rollout resume deployment/web -n shop`"


def test_a_release_under_way_shows_both_sides_the_steps_the_weight_and_what_it_waits_for() -> None:
    assert text(in_step(1)) == [
        "shop/web  release web-bc87ce785f-1  Progressing, step 1 of 3  began 12:00:00",
        "  stable  hellok8s:v1  4/4 ready  ██████████████████      90 %",
        "  canary  hellok8s:v2  4/4 ready  ██                      10 %",
        "  steps   ▶ 10 % (10m)  ○ 50 % (approval)  ○ 100 %",
        "  effect  10 % asked at 12:00:00, in effect since 12:00:05 (settled for 5 s, not measured)",
        "  now     step 1 holds until 12:10:05 (10 min), then step 2, 50 %",
    ]


def test_an_analysis_shows_what_both_served_the_verdict_and_what_it_does_not_cover() -> None:
    assert text(situations.analysed()) == [
        "shop/web  release web-bc87ce785f-1  Progressing, step 1 of 3  began 12:00:00",
        "  stable  hellok8s:v1  4/4 ready  ██████████████████      90 %  1,204 requests  0.08 % errors  p99 31 ms",
        "  canary  hellok8s:v2  4/4 ready  ██                      10 %  133 requests    0.00 % errors  p99 1.2 s",
        "  steps   ▶ 10 % (10m)  ○ 50 % (approval)  ○ 100 %",
        "  effect  10 % asked at 12:00:00, in effect since 12:00:05 (settled for 5 s, not measured)",
        "  verdict not enough data yet: errors needs about 1,400 more canary requests, 2 min at this rate",
        "          one canary pod: a bad pod (or node) can't be told from a bad version; two or more can",
        "  now     step 1 holds until 12:10:05 (10 min), then step 2, 50 %, if it is good enough",
    ]


def test_without_data_the_verdict_says_what_was_not_seen() -> None:
    message = "errors: no data for 75 s; the evidence so far is kept"
    lines = text(situations.analysed(message=message, blind=True, problems=["pod web-1: no answer within 5 s"]))
    assert lines[5:7] == [f"  verdict {message}", "          pod web-1: no answer within 5 s"]


def test_a_step_that_waits_for_the_verdict_does_not_repeat_its_words() -> None:
    cluster = situations.analysed()
    cluster.now += timedelta(minutes=11)
    assert text(cluster)[-1] == "  now     step 1 waits for the verdict"
    cluster = situations.analysed(message="errors: no data for 75 s; the evidence so far is kept", blind=True)
    cluster.now += timedelta(minutes=11)
    assert text(cluster)[-1] == "  now     step 1 is held while there is no data"


def test_a_verdict_without_words_takes_none_from_what_a_step_waits_for() -> None:
    cluster = situations.waiting_for_pods(analysis={"checks": [{"errors": {}}]})
    name = cluster.release["metadata"]["name"]
    cluster.edit("Release", name, lambda obj: obj.setdefault("status", {}).update(analysis={"checks": []}))
    assert text(cluster)[-1] == "  now     step 1: 0 of 4 canary pods ready; taken back at 12:10:00 if that stays so"


def test_a_weight_that_is_not_in_effect_yet_shows_both_and_the_way_between_them() -> None:
    assert text(situations.entering_50())[:6] == [
        "shop/web  release web-bc87ce785f-1  Progressing, step 2 of 3  began 12:00:00",
        "  stable  hellok8s:v1  4/4 ready  ██████████████████      90 %",
        "  canary  hellok8s:v2  4/4 ready  ██░░░░░░░░              10 %",
        "  steps   ✔ 10 % (10m)  ▶ 50 % (approval)  ○ 100 %",
        "  effect  50 % asked for, 10 % in effect since 12:00:05 (settled for 5 s, not measured)",
        "  now     step 2: 50 % is set; it counts as in effect 5 s after that (until 12:10:11, 5 s left)",
    ]


def test_after_the_adoption_the_weight_is_what_the_service_selects() -> None:
    lines = text(situations.adopted())
    assert "  canary  hellok8s:v2  4/4 ready  ████████████████████   100 %" in lines
    assert "  effect  100 % asked for, 100 % in effect (Service web selects only them)" in lines


def test_pods_that_are_not_ready_are_listed_with_when_that_becomes_a_failure() -> None:
    lines = text(situations.waiting_for_pods())
    assert lines[3:5] == [
        "          ├ web-bc87ce785f-1-34  Pending  0 s",
        "          ├ web-bc87ce785f-1-37  Pending  0 s",
    ]
    assert lines[-1] == "  now     step 1: 0 of 4 canary pods ready; taken back at 12:10:00 if that stays so"


def test_a_crashed_pod_shows_how_it_ended_and_how_often() -> None:
    assert "          ├ web-bc87ce785f-1-34  CrashLoopBackOff  2 restarts  0 s  OOMKilled, exit code 137" in text(
        situations.crashing(passes=3)
    )


FIRST_LINES: list[tuple[Situation, list[str]]] = [
    (
        situations.awaiting,
        ["shop/web  release web-bc87ce785f-1  step 2 of 3 waits for approval  began 12:00:00"],
    ),
    (
        situations.paused,
        ["shop/web  release web-bc87ce785f-1  Paused in step 1 of 3 by ann: lunch  began 12:00:00"],
    ),
    (
        situations.paused_at_once,
        ["shop/web  release web-bc87ce785f-1  Paused before step 1 of 3 by ann  began 12:00:00"],
    ),
    (
        situations.crashing,
        [
            f"shop/web  release web-bc87ce785f-1  RollingBack: {CRASH}  began 12:00:00",
            "          traffic goes back to hellok8s:v1",
        ],
    ),
    (
        situations.held,
        [
            f"shop/web  release web-bc87ce785f-1  RolledBack 3 min ago: {CRASH}",
            "          all pods run hellok8s:v1; the Deployment is held (paused), its template hellok8s:v2 gets no "
            "pods. Next: fix the image, or `davy retry web`",
            "  steps   ✘ 10 % (10m)  ○ 50 % (approval)  ○ 100 %",
        ],
    ),
    (
        situations.reverted,
        [
            f"shop/web  release web-bc87ce785f-1  RolledBack 3 min ago: {CRASH}",
            "          all pods run hellok8s:v1; the template was put back. Next: release something else; "
            "hellok8s:v2 itself would be held",
        ],
    ),
    (situations.retried, ["shop/web  a release of hellok8s:v2 begins; hellok8s:v1 stays stable"]),
    (
        situations.superseded,
        [
            "shop/web  release web-bc87ce785f-1  RollingBack: a newer template came  began 12:00:00",
            "          traffic goes back to hellok8s:v1",
        ],
    ),
    (
        situations.withdrawn,
        [
            "shop/web  release web-bc87ce785f-1  Withdrawn just now: the template was set back to the stable one",
            "          all pods run hellok8s:v1",
        ],
    ),
    (
        situations.done,
        [
            "shop/web  release web-bc87ce785f-1  Completed just now: all pods run hellok8s:v2",
            "  stable  hellok8s:v2  4/4 ready",
        ],
    ),
    (
        situations.keeping,
        [
            "shop/web  release web-bc87ce785f-1  Completed 3 min ago: all requests reach hellok8s:v2",
            "          the old pods, hellok8s:v1, stay at full size for a while, without requests. Next: `davy abort "
            "web` returns to them at once",
        ],
    ),
    (
        situations.invalid_and_changed,
        [
            "policy shop/web can't be used, 2 problems:",
            "  spec.steps[1].weight: 10 comes after 50; weights must rise",
            '  spec.traffic.routes[0].ingress.name: no Ingress "wbe" in shop; those that send to Service "web": web',
            "          all pods run hellok8s:v1; the Deployment is paused, its template hellok8s:v2 waits. Next: "
            "correct the policy and apply it again (`davy validate -f FILE` checks a file first); "
            f"{RESUME} rolls it out without a release",
        ],
    ),
    (
        situations.without_policy,
        ["shop/web  no policy releases it: Kubernetes rolls out each new template by itself"],
    ),
    (
        situations.policy_lost,
        [
            "shop/web  no policy releases it",
            f"          the Deployment is paused, its template hellok8s:v2 gets no pods. Next: {RESUME} rolls it out, "
            "or apply a ReleasePolicy with spec.target.name: web",
        ],
    ),
    (situations.gone, ["shop/web  there is no Deployment web in namespace shop"]),
    (
        situations.two_versions,
        [
            "shop/web  two versions run, web-nativee7c68a245b (4) and web-nativebc87ce785f (1): which one is stable "
            "can't be told",
            f"          no release can start while it is so. Next: {RESUME} rolls every pod to the Deployment's "
            "template; then releases start from there",
        ],
    ),
    (
        situations.unattended,
        [
            "shop/web  release web-bc87ce785f-1  Pending, step 1 of 3: nothing has been done for 5 min  began 12:00:00",
            "          Next: see whether the controller runs (`davy controller`, or the Deployment that "
            "`davy install` made)",
        ],
    ),
]


def test_where_a_route_was_in_the_way_and_not_the_image_that_is_what_to_mend() -> None:
    cluster = situations.held()
    cluster.release["status"]["end"]["reason"] = "SubsetsUnseen"
    assert text(cluster)[1].strip().endswith("gets no pods. Next: mend that, then `davy retry web`")


@pytest.mark.parametrize(("situation", "lines"), FIRST_LINES, ids=[s.__name__ for s, _ in FIRST_LINES])
def test_the_first_line_says_what_is_and_the_second_what_to_do(situation: Situation, lines: list[str]) -> None:
    assert text(situation())[: len(lines)] == lines


@pytest.mark.parametrize(
    ("situation", "advice"),
    [
        (situations.awaiting, "`davy approve web` goes on to step 3, 100 %; `davy abort web` takes it back"),
        (situations.paused, "`davy resume web` goes on; `davy abort web` takes it back"),
        (situations.without_policy, "apply a ReleasePolicy with spec.target.name: web"),
    ],
)
def test_what_waits_for_a_person_says_which_command_is_waited_for(situation: Situation, advice: str) -> None:
    assert text(situation())[-1] == f"  next    {advice}"


def test_commands_are_told_as_this_person_types_them() -> None:
    look = Look(zone=UTC, program="kubectl davy", flags="-n shop --context prod", kubectl="kubectl --context prod")
    assert text(situations.paused(), look)[-1] == (
        "  next    `kubectl davy resume -n shop --context prod web` goes on; "
        "`kubectl davy abort -n shop --context prod web` takes it back"
    )
    assert "`kubectl --context prod rollout resume deployment/web -n shop`" in text(situations.two_versions(), look)[1]
    assert "`kubectl davy controller`" in text(situations.unattended(), look)[1], "which is about no namespace"


def test_without_utf8_there_is_only_ascii() -> None:
    ascii_only = msgspec.structs.replace(LOOK, utf8=False)
    for situation in (situations.entering_50, situations.held, situations.restarted):
        assert "\n".join(text(situation(), ascii_only, "all")).isascii()
    assert text(situations.entering_50(), ascii_only)[2:4] == [
        "  canary  hellok8s:v2  4/4 ready  ##........              10 %",
        "  steps   [x] 10 % (10m)  [>] 50 % (approval)  [ ] 100 %",
    ]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_lines_are_folded_to_the_width_between_words(width: int) -> None:
    narrow = msgspec.structs.replace(LOOK, width=width)
    for situation in (situations.held, situations.invalid_and_changed, situations.two_versions):
        folded, whole = text(situation(), narrow), text(situation())
        long = [line for line in folded if len(line) > width]
        assert all(" " not in line.strip() for line in long), "only a word that is longer than that"
        assert " ".join(" ".join(folded).split()) == " ".join(" ".join(whole).split())


def test_bars_shrink_where_there_is_little_room() -> None:
    narrow = msgspec.structs.replace(LOOK, width=50)
    sides = [line for line in text(in_step(1), narrow) if "ready" in line]
    assert sides == [
        "  stable  hellok8s:v1  4/4 ready  ███████▎    90 %",
        "  canary  hellok8s:v2  4/4 ready  ▊           10 %",
    ]


def test_the_time_of_the_beginning_stands_at_the_right_edge_of_a_terminal() -> None:
    wide = msgspec.structs.replace(LOOK, width=100)
    head = text(in_step(1), wide)[0]
    assert len(head) == 100
    assert head.endswith("began 12:00:00")


def test_of_many_pods_those_that_are_not_ready_come_first_and_the_rest_is_counted() -> None:
    cluster = in_step(1, replicas=30)
    pods = [pod for pod in cluster.all("Pod") if "native" in pod["metadata"]["name"]]
    for pod in pods[-2:]:
        pod["status"]["conditions"][0]["status"] = "False"
    lines = text(cluster, pods="all")
    stable = lines[2 : lines.index(next(line for line in lines if line.startswith("  canary")))]
    assert [line.split()[2] for line in stable[:2]] == ["Pending", "Pending"]
    assert stable[-1] == "          └ and 18 more"


def test_what_a_container_says_can_not_speak_to_the_terminal() -> None:
    cluster = in_step(1)
    cluster.command(abort={"by": "ann", "reason": "\x1b[2Jgone\r\n\u202egnp.exe"})
    cluster.look()
    head = text(cluster)[0]
    assert "aborted by ann: \\x1b[2Jgone  \\x202egnp.exe" in head


def test_the_same_image_is_said_to_have_another_template() -> None:
    assert "  canary  hellok8s:v1 (another template)  4/4 ready" in text(situations.restarted())[2]


def test_without_a_service_the_pods_are_the_weight() -> None:
    cluster = in_step(1, routed=False, steps=[{"weight": 20, "hold": "1m"}, {"weight": 100}])
    assert "  effect  20 % asked for, 20 % in effect since 12:00:00 (1 of 5 pods)" in text(cluster)


def test_a_deployment_that_a_person_paused_is_said_to_be() -> None:
    assert text(situations.paused_by_hand())[1].startswith(
        f"          the Deployment is paused, not by us: {RESUME} ends that."
    )


def test_without_a_gate_the_pause_is_ours() -> None:
    cluster = situations.with_policy(gate="fallback")
    assert text(cluster)[0] == "shop/web  no release yet; all pods run hellok8s:v1"
    assert not any("paused" in line for line in text(cluster))


def test_a_policy_that_was_broken_during_a_release_is_told_of_below_it() -> None:
    cluster = in_step(1)
    cluster.edit("ReleasePolicy", "web", lambda policy: policy["spec"]["steps"].reverse())
    lines = text(cluster)
    assert lines[0].endswith("Progressing, step 1 of 3  began 12:00:00")
    assert lines[1] == "  policy web has changed and can't be used for the next release:"


def test_releases_that_were_overtaken_by_kubernetes_itself_say_so() -> None:
    assert text(situations.resumed_by_hand())[0] == (
        "shop/web  release web-bc87ce785f-1  Overridden just now: somebody resumed the Deployment: "
        "Kubernetes rolls it out by itself"
    )
