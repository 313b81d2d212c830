//! `fastnode rotate`: plan, ask, rotate, report.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

use super::exit::Exit;
use super::failure::Failure;
use super::printer::{self, Format, Printer};
use super::world::{Task, World, run};
use super::{fix, prompt, telling};
use crate::cloud::addons::Addons;
use crate::cloud::{self, Cloud};
use crate::cluster::manifests::Manifests;
use crate::cluster::{self, Cluster};
use crate::config::{Config, PastBudgets};
use crate::controller;
use crate::controller::surgeon::{ClusterSurgeon, Fixes, Surgeon};
use crate::fixes::Catalogue;
use crate::observe::Snapshot;
use crate::plan::Preview;
use crate::preflight::Preflight;
use crate::report::plain::Detail;
use crate::report::reporter::Show;
use crate::report::text::count;
use crate::report::{closing, plan};

/// What is done about slow and failing new nodes, and with what.
struct Mending {
    fixes: Fixes,
    catalogue: Catalogue,
    waiter: Option<String>,
}

struct Rotate {
    printer: Printer,
    yes: bool,
    past_budgets: PastBudgets,
    show: Show,
    events: Option<PathBuf>,
    mending: Option<Mending>,
    /// The line that says what is waited for is on the screen.
    looking: Cell<bool>,
}

/// Rotates as the settings say.
///
/// # Errors
/// If it is refused, or ends without a report.
pub fn rotate(config: Config, printer: Printer) -> Result<Exit, Failure> {
    let yes = config.flag("yes")?;
    let past_budgets = config.past_budgets()?;
    // Checked whole before anything is connected to.
    config.policy()?;
    let mending = mending(&config)?;
    refuse_silence(&config, yes, &past_budgets)?;
    let show = show(&config, &printer)?;
    let events = config.text("events")?.map(PathBuf::from);
    run(config, matches!(show, Show::Bars(..)), |_| Rotate {
        printer,
        yes,
        past_budgets,
        show,
        events,
        mending,
        looking: Cell::new(false),
    })
}

/// What `--fixes` and what goes with it say.
fn mending(config: &Config) -> Result<Option<Mending>, Failure> {
    let words = [("suggest", Some(Fixes::Suggest)), ("apply", Some(Fixes::Apply)), ("off", None)];
    let Some(fixes) = config.choice("fixes", &words)? else { return Ok(None) };
    Ok(Some(Mending { fixes, catalogue: fix::catalogue(config)?, waiter: fix::waiter(config)? }))
}

/// How a run is shown, by the settings and what the outputs are.
pub(super) fn show(config: &Config, printer: &Printer) -> Result<Show, Failure> {
    let (quiet, verbose) = (config.flag("quiet")?, config.flag("verbose")?);
    let detail = |usual| match (quiet, verbose) {
        (true, _) => Detail::Quiet,
        (_, true) => Detail::Everything,
        _ => usual,
    };
    Ok(match printer.format {
        Format::Human if printer.terminal => Show::Bars(printer.error_paint, detail(Detail::Notable)),
        Format::Human | Format::Plain => Show::Lines(printer.paint, detail(Detail::Nodes)),
        Format::Json => Show::Json,
    })
}

/// Where nobody can be asked, everything must have been said.
fn refuse_silence(config: &Config, yes: bool, past_budgets: &PastBudgets) -> Result<(), Failure> {
    let nothing = "nothing was changed: standard input is no terminal, so nobody can be asked";
    if let PastBudgets::Cluster(named) = past_budgets
        && config.text("cluster")?.is_some_and(|cluster| cluster != named)
    {
        let cluster = config.text("cluster")?.unwrap_or_default();
        return Err(Failure::new(
            Exit::Usage,
            format!("nothing was changed: --past-budgets names {named:?}, and the cluster is {cluster:?}"),
        ));
    }
    if prompt::can_ask() {
        return Ok(());
    }
    if *past_budgets == PastBudgets::Ask {
        return Err(Failure::new(Exit::Usage, nothing)
            .hint("name the cluster whose disruption budgets may be passed: --past-budgets=CLUSTER"));
    }
    if !yes {
        return Err(Failure::new(Exit::Usage, nothing).hint("see the plan with fastnode plan, then give --yes"));
    }
    Ok(())
}

impl Rotate {
    /// Looking at a large cluster takes seconds: says so where somebody waits.
    fn looking(&self, cluster: &str) {
        if let Show::Bars(paint, _) = self.show {
            self.printer.err(&paint.dim(&format!("looking at {cluster} …")));
            self.looking.set(true);
        }
    }

    /// Takes that line away.
    fn looked(&self) {
        if self.looking.take() {
            self.printer.err("\r\u{1b}[K");
        }
    }

    async fn confirm(&self, cluster: &str, preview: &Preview, preflight: &Preflight) -> bool {
        let printer = &self.printer;
        let text = plan::text(cluster, preview, preflight, printer.width, printer.paint);
        match self.show {
            Show::Json if self.yes => {}
            Show::Json => printer.err(&text),
            Show::Bars(..) | Show::Lines(..) => printer.out(&text),
        }
        if self.past_budgets == PastBudgets::Ask {
            let question = format!("Pods may be deleted past their disruption budgets. Type {cluster} to allow it:");
            if !prompt::typed(printer, &question, cluster).await {
                return false;
            }
        }
        let nodes = count(u64::from(plan::candidates(preview)), "node");
        self.yes || prompt::yes(printer, &format!("Rotate {nodes} of {cluster}?")).await
    }
}

impl Task for Rotate {
    type Outcome = Exit;

    async fn run<C, K>(self, world: World<C, K>) -> Result<Exit, Failure>
    where
        C: Cloud + Addons + cloud::evidence::Evidence + 'static,
        K: Cluster + Manifests + cluster::evidence::Evidence + 'static,
    {
        let World { ports, mut settings, interrupt, pace } = world;
        let cluster = settings.cluster.clone();
        if let PastBudgets::Cluster(named) = &self.past_budgets
            && **named != *cluster
        {
            return Err(Failure::new(
                Exit::Usage,
                format!("nothing was changed: --past-budgets names {named:?}, and the cluster is {:?}", &*cluster),
            ));
        }
        settings.policy.past_budgets = self.past_budgets != PastBudgets::No;
        let (sink, telling) = telling::begin(self.show, self.events.as_deref())?;
        let confirm = async |_: &Snapshot, preview: &Preview, preflight: &Preflight| {
            self.looked();
            let go_on = self.confirm(&cluster, preview, preflight).await;
            pace(preview.expected_s);
            go_on
        };
        self.looking(&cluster);
        let surgeon = self.mending.as_ref().map(|mending| {
            let Mending { fixes, catalogue, waiter } = mending;
            let run = (cluster.clone(), settings.policy.clone());
            Rc::new(ClusterSurgeon::new(&ports, run, *fixes, catalogue.clone(), waiter.clone())) as Rc<dyn Surgeon>
        });
        let result = controller::rotate_and_mend(ports, settings, surgeon, confirm, sink, interrupt).await;
        self.looked();
        let reporter = telling.end().await?;
        let ending = match (reporter.report(), self.show) {
            (Some(report), Show::Bars(paint, _) | Show::Lines(paint, _)) => {
                closing::text(report, &cluster, self.printer.width, paint)
            }
            _ => String::new(),
        };
        let told = reporter.report().is_some();
        reporter.finish(&ending).await.into_iter().for_each(printer::lose);
        match result {
            // The report has said so already.
            Err(controller::Error::Interrupted(signal)) if told => Ok(signal.into()),
            result => Ok(result?.outcome.into()),
        }
    }
}
