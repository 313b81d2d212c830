//! Each face of the same story, as it is read.

use super::fixture::{at, events, middle, report};
use super::json::JsonLines;
use super::plain::{Detail, PlainLines};
use super::text::Paint;
use super::view::View;
use super::{Summary, closing};
use crate::event::{About, Chosen, Event, EventKind};
use crate::model::Text;
use crate::plan::{Progress, Subject, Verdict, Wait, WaitReason};
use crate::readiness::stages::{Launch, Moments, NodeStart, Segment, Step};

const PLAIN: Paint = Paint { color: false };

fn lines(detail: Detail) -> String {
    let mut plain = PlainLines::new(detail, PLAIN);
    events().iter().flat_map(|e| plain.lines(e)).collect::<Vec<_>>().join("\n")
}

#[test]
fn lines_for_a_log_tell_of_nodes_and_of_long_waits() {
    insta::assert_snapshot!(lines(Detail::Nodes));
}

#[test]
fn verbose_lines_tell_of_pods_and_every_wait() {
    insta::assert_snapshot!(lines(Detail::Everything));
}

#[test]
fn quiet_lines_tell_of_what_went_wrong() {
    insta::assert_snapshot!(lines(Detail::Quiet));
}

#[test]
fn a_wait_that_is_over_gets_no_line_when_its_time_comes() {
    let at = |second| Event { time: jiff::Timestamp::from_second(second).unwrap(), kind: EventKind::Tick };
    let event = |second, kind| Event { kind, ..at(second) };
    let wait = Wait {
        subject: Subject::Group("g".into()),
        reason: WaitReason::Launch { missing: 1, failure: None },
        since: Some(at(0).time),
        until: None,
    };
    let progress = |waits: Vec<Wait>| EventKind::Progress { groups: Default::default(), in_hand: Vec::new(), waits };
    for (still, told) in [(vec![], 0), (vec![wait.clone()], 1)] {
        let mut plain = PlainLines::new(Detail::Nodes, PLAIN);
        let events = [event(1, EventKind::Wait(wait.clone())), event(30, progress(still)), at(90)];
        assert_eq!(events.iter().flat_map(|e| plain.lines(e)).count(), told);
    }
}

#[test]
fn json_lines_carry_the_contracts_names() {
    let mut json = JsonLines::default();
    insta::assert_snapshot!(events().iter().filter_map(|e| json.line(e)).collect::<Vec<_>>().join("\n"));
}

fn view(seconds: i64) -> View {
    let mut view = View::default();
    for event in events().iter().filter(|e| e.time <= at(seconds)) {
        view.fold(event);
    }
    view
}

#[test]
fn the_bars_fit_a_narrow_terminal() {
    insta::assert_snapshot!(view(203).lines(79, 24, PLAIN).join("\n"));
}

#[test]
fn the_bars_use_a_wide_terminal() {
    insta::assert_snapshot!(view(203).lines(199, 50, PLAIN).join("\n"));
}

#[test]
fn colours_change_nothing_but_colours() {
    let colored = view(203).lines(79, 24, Paint { color: true }).join("\n");
    insta::assert_snapshot!(colored.replace('\u{1b}', "<ESC>"));
    // Without colours the rest of a bar is told apart by its own sign.
    let stripped = console::strip_ansi_codes(&colored).into_owned();
    assert_eq!(stripped.replace('━', "·"), view(203).lines(79, 24, PLAIN).join("\n").replace('━', "·"));
}

/// Ten groups and a hundred nodes in hand.
fn crowd() -> View {
    let EventKind::Progress { in_hand, waits, .. } = middle() else { panic!("the middle is a progress") };
    let group = |n: u32| {
        let progress = Progress { outdated: 40 + n, current: 60, draining: 5, ..Progress::default() };
        (format!("a-group-with-a-rather-long-name-in-zone-{n}").as_str().into(), progress)
    };
    let hands = (0..100).map(|n| {
        let mut hand = in_hand[n % 2].clone();
        hand.since = Some(at(n as i64));
        hand
    });
    let groups = (0..10).map(group).collect();
    let mut view = View::default();
    let kind = EventKind::Progress { groups, in_hand: hands.collect(), waits };
    view.fold(&Event { time: at(200), kind });
    view
}

#[test]
fn no_terminal_is_too_small_and_none_is_overrun() {
    let view = crowd();
    for width in [1, 10, 20, 39, 40, 60, 79, 120, 199, 500] {
        for height in [1, 5, 10, 24, 60, 200] {
            let lines = view.lines(width, height, PLAIN);
            assert!(lines.len() < height.max(6), "{} lines in a height of {height}", lines.len());
            for line in &lines {
                let columns = line.chars().count();
                assert!(columns <= width, "{columns} columns in a width of {width}: {line}");
            }
        }
    }
    insta::assert_snapshot!(view.lines(79, 24, PLAIN).join("\n"));
}

#[test]
fn the_closing_text_says_how_it_went_and_who_took_the_time() {
    insta::assert_snapshot!(closing::text(&report(), "demo", 80, PLAIN));
}

#[test]
fn nothing_to_do_is_one_line() {
    let report = Summary::new(at(0)).report(closing_of(Verdict::Done));
    assert_eq!(closing::text(&report, "demo", 80, PLAIN), "demo: nothing to do, every node is current\n");
}

fn closing_of(outcome: Verdict) -> super::Closing {
    let limits = super::Limits { surge: 1, unavailable: 0, drains: 1, canary: 1 };
    super::Closing {
        outcome,
        finished: at(1116),
        limits: [("web-a".into(), limits)].into(),
        max_drains: None,
        aws_calls: Default::default(),
        kube_requests: Default::default(),
        left_behind: Vec::new(),
    }
}

#[test]
fn the_summary_counts_what_the_events_tell() {
    let mut summary = Summary::new(at(0));
    events().iter().for_each(|e| summary.fold(e));
    let report = summary.report(closing_of(Verdict::Incomplete));
    assert_eq!((report.nodes_rotated, report.nodes_skipped.len()), (1, 1));
    assert_eq!((report.evictions, report.pods_moved, report.pods_moved_twice), (1, 1, 0));
    // From the start on: what a person took to say yes is no part of it.
    assert_eq!(report.duration_s, 1115.0);
    let median = |stage: &str| report.stages[stage].p50;
    assert_eq!(
        ["ready", "functional", "start", "drain", "terminate"].map(|stage| (median(stage) * 10.0).round()),
        [110.0, 72.0, 182.0, 90.0, 410.0]
    );
    // One node, one after the other: launch to functional 78 s, drain 9 s, terminate 41 s.
    assert_eq!(report.lower_bound_s, 128.0);
    // From the moment the bars were told of the budget to the end, and no more than was lost.
    let budget = &report.time_lost[0];
    assert_eq!((&*budget.what, budget.seconds), ("disruption budget shop/cart", 936.0));
    let lost: f64 = report.time_lost.iter().map(|l| l.seconds).sum();
    assert!((lost - (report.duration_s - report.lower_bound_s)).abs() < 1e-6, "{lost}");
}

#[test]
fn a_pod_that_moves_again_is_counted() {
    let mut summary = Summary::new(at(0));
    for moved_before in [false, false, true] {
        let (pod, node) = (crate::model::ObjectKey::new("shop", "cart"), "node".into());
        summary.fold(&Event { time: at(1), kind: EventKind::PodEvicted { pod, node, moved_before } });
    }
    let report = summary.report(closing_of(Verdict::Done));
    assert_eq!((report.evictions, report.pods_moved, report.pods_moved_twice), (3, 2, 1));
}

/// A start as the world shows it: Ready after 40 s, functional after 60 s, the proxy waited for until 30.
fn shown() -> NodeStart {
    let proxy = crate::model::ObjectKey::new("kube-system", "kube-proxy");
    let segment = |daemonset, step, from, to| Segment { daemonset, step, from: at(from), to: at(to) };
    NodeStart {
        node: "new".into(),
        instance: Some("i-new".into()),
        group: Some("web-a".into()),
        zone: None,
        instance_type: None,
        template: None,
        moments: Moments {
            booted: None,
            requested: None,
            provisioned: None,
            joined: at(100),
            ready: Some(at(140)),
            functional: Some(at(160)),
            first_pod: None,
        },
        daemonsets: Vec::new(),
        path: vec![segment(Some(proxy), Step::Ready, 100, 130), segment(None, Step::Ready, 130, 160)],
        unknown: Vec::new(),
    }
}

/// A rotation of one node whose replacement was noticed only as its Node registered, 58 s after its launch.
fn noticed_late() -> Summary {
    let about = |name: &str| About {
        group: Some("web-a".into()),
        zone: None,
        instance: Some(format!("i-{name}").as_str().into()),
        node: Some(name.into()),
    };
    let new = || about("new");
    let story = [
        (100, EventKind::ReplacementLaunching { about: new() }),
        (100, EventKind::ReplacementRunning { about: new() }),
        (100, EventKind::ReplacementJoined { about: new() }),
        (141, EventKind::ReplacementReady { about: new(), seconds: 41.0 }),
        (
            170,
            EventKind::ReplacementFunctional {
                about: new(),
                seconds: 62.0,
                start: Some(Box::new(shown())),
                tolerated: vec!["aws-node: container aws-node restarted 1x, 30 s after start, last exit code 1".into()],
                differs: vec!["label team is on every healthy old node, not here".into()],
            },
        ),
        (180, EventKind::NodeDrained { about: about("old"), seconds: 10.0, reason: Chosen::Outdated }),
        (230, EventKind::NodeGone { about: about("old"), seconds: 50.0, by_others: false }),
    ];
    let mut summary = Summary::new(at(0));
    story.into_iter().for_each(|(second, kind)| summary.fold(&Event { time: at(second), kind }));
    summary
}

#[test]
fn stages_are_those_that_the_world_shows_of_a_start() {
    let report = noticed_late().report(closing_of(Verdict::Done));
    let medians: Vec<_> = report.stages.iter().map(|(name, p)| (&**name, p.p50)).collect();
    // What was seen of it would be 41 s and 21 s.
    assert_eq!(medians, [("drain", 10.0), ("functional", 20.0), ("ready", 40.0), ("start", 60.0), ("terminate", 50.0)]);
    assert_eq!(report.critical_path, ["kube-system/kube-proxy: Ready, 30s", "node: Ready, 30s"].map(Text::from));
    // As far as was seen, from launch to functional: 70 s, drain 10 s, terminate 50 s.
    assert_eq!(report.lower_bound_s, 130.0);
}

#[test]
fn what_aws_tells_of_launches_completes_stages_path_and_bound() {
    let mut summary = noticed_late();
    let asked: Vec<_> = summary.started().map(ToString::to_string).collect();
    assert_eq!(asked, ["i-new"]);
    let launch = Launch { requested: Some(at(40)), provisioned: Some(at(42)) };
    summary.launched(&[("i-new".into(), launch), ("i-other".into(), launch)].into());
    let report = summary.report(closing_of(Verdict::Done));
    let median = |stage: &str| report.stages[stage].p50;
    assert_eq!(["provisioned", "joined", "total"].map(median), [2.0, 58.0, 118.0]);
    let path: Vec<&str> = report.critical_path.iter().map(|part| &**part).collect();
    assert_eq!(path[..2], ["node: launch, 2.0s", "node: boot and registration, 58s"]);
    // Requested at 40, functional at 170, soak included; drain 10 s, terminate 50 s.
    assert_eq!(report.lower_bound_s, 190.0);
}

fn about_old(name: &str) -> About {
    let instance = Some(format!("i-{name}").as_str().into());
    About { group: Some("web-a".into()), zone: None, instance, node: Some(name.into()) }
}

/// The summary of these events, a hundred seconds apart.
fn summary_of(story: impl IntoIterator<Item = EventKind>) -> Summary {
    let mut summary = Summary::new(at(0));
    story.into_iter().zip(1..).for_each(|(kind, n)| summary.fold(&Event { time: at(100 * n), kind }));
    summary
}

fn rotated(name: &str) -> [EventKind; 4] {
    let about = || about_old(name);
    [
        EventKind::NodeSelected { about: about(), reason: Chosen::Outdated, outdated: vec![] },
        EventKind::NodeDrained { about: about(), seconds: 50.0, reason: Chosen::Outdated },
        EventKind::NodeTerminating { about: about(), decrement: false, by_others: false },
        EventKind::NodeGone { about: about(), seconds: 10.0, by_others: false },
    ]
}

#[test]
fn a_node_that_was_given_up_and_rotated_later_was_not_skipped() {
    let skipped = |name: &str| EventKind::NodeSkipped { about: about_old(name), why: "let go".into() };
    let report =
        summary_of([skipped("a"), skipped("b")].into_iter().chain(rotated("a"))).report(closing_of(Verdict::Done));
    assert_eq!(report.nodes_rotated, 1);
    assert_eq!(report.nodes_skipped.keys().map(ToString::to_string).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn what_others_took_and_what_was_given_back_is_not_counted_as_rotated() {
    let taken = [
        EventKind::NodeTerminating { about: about_old("a"), decrement: false, by_others: true },
        EventKind::NodeGone { about: about_old("a"), seconds: 70.0, by_others: true },
        EventKind::NodeDrained { about: about_old("new"), seconds: 5.0, reason: Chosen::Surge },
        EventKind::NodeGone { about: about_old("new"), seconds: 10.0, by_others: false },
    ];
    let report = summary_of(taken.into_iter().chain(rotated("b"))).report(closing_of(Verdict::Done));
    assert_eq!((report.nodes_rotated, report.stages["drain"].max, report.stages["terminate"].max), (1, 50.0, 10.0));
}

#[test]
fn a_run_that_was_cut_short_is_given_no_advice() {
    let launched = |name: &str| EventKind::ReplacementLaunching { about: about_old(name) };
    let functional = |name: &str| EventKind::ReplacementFunctional {
        about: about_old(name),
        seconds: 90.0,
        start: None,
        tolerated: vec![],
        differs: vec![],
    };
    let story = ["a", "b", "c"].into_iter().flat_map(rotated);
    let summary = summary_of([launched("x"), functional("x")].into_iter().chain(story));
    let bottleneck = |outcome| summary.report(closing_of(outcome)).bottleneck;
    assert_eq!(&*bottleneck(Verdict::Interrupted), "web-a: a surge of 1");
    assert!(bottleneck(Verdict::Done).starts_with("web-a: a surge of 1; a surge of 2 would make it"));
}
