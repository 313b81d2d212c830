//! The command line. Flags are settings: each has the key of its own name in `config/default.toml`, where
//! its default and its meaning in full stand; [`crate::config`] reads and checks their values.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use serde::Serialize;
use toml::{Table, Value};

use crate::config;

const STYLES: Styles =
    Styles::styled().header(AnsiColor::Green.on_default().bold()).usage(AnsiColor::Green.on_default().bold());

const AFTER: &str = "\
Every flag is also a key of the configuration file and a variable: --drain-timeout, drain-timeout,
FASTNODE_DRAIN_TIMEOUT. `fastnode config list` shows each value and where it came from.";

/// Rotates the nodes of an EKS cluster's Auto Scaling groups, gated on functional readiness.
///
/// fastnode finds the outdated nodes of each group, brings up replacements, waits until a replacement is
/// functional, drains an old node within its disruption budgets, terminates it, and goes on to the next.
#[derive(Debug, Parser)]
#[command(name = "fastnode", version, styles = STYLES, after_help = AFTER, max_term_width = 100)]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// What every verb takes.
    #[command(flatten)]
    pub general: General,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Replace every outdated node: plan, ask, rotate, report.
    Rotate(Box<Rotate>),
    /// Show what rotate would do; change nothing. Exit 0: nothing to do; 10: there is work.
    Plan(Box<Plan>),
    /// Show the rotation in progress or the last one, from any machine.
    Status(Status),
    /// Show how the nodes there are have started, stage by stage, and what they were waiting for; change nothing.
    Measure(Box<Measure>),
    /// Ask a running rotation, wherever it runs, to hold at the next safe point; it keeps its lock and waits.
    Pause(Ask),
    /// Ask a paused rotation to go on.
    Resume(Ask),
    /// End a rotation and put everything back: ask whoever runs it, or do it here where nobody does.
    Abort(Abort),
    /// Wait until something is there: what an init container runs. Exit 0: there; 75: start me over; 5: not in
    /// time; 1: it cannot be looked at here.
    Await(Await),
    /// Say what is wrong with nodes now, why, and which fix helps; change nothing. Exit 0: healthy; 11: findings.
    Doctor(Doctor),
    /// Show what would make new nodes functional sooner, as a diff; --apply does it, --revert takes it back.
    Fix(Box<Fix>),
    /// Show the configuration.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Write a shell's completions to standard output.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Write the manual pages into a directory.
    Man {
        /// The directory; made where it is missing.
        dir: PathBuf,
    },
}

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Every key, its value, and where that came from.
    List,
}

/// `await`. Its flags are no settings: an init container has neither a file nor variables of ours.
#[derive(Debug, Args)]
pub struct Await {
    /// What is waited for.
    #[command(subcommand)]
    pub what: AwaitFor,
    /// How long at most; then exit 5.
    #[arg(long, value_name = "DURATION", default_value = "10m", global = true)]
    pub timeout: String,
    /// Between two looks.
    #[arg(long, value_name = "DURATION", default_value = "500ms", global = true)]
    pub interval: String,
}

/// What can be waited for.
#[derive(Debug, Subcommand)]
pub enum AwaitFor {
    /// Until something accepts connections at an address.
    Tcp {
        /// HOST:PORT, as Kubernetes expands $(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT). Empty or not
        /// expanded while these are not there, or with KUBERNETES_SERVICE_HOST set to nothing: exit 75. Any other
        /// variable that is not expanded is a mistake.
        #[arg(value_name = "HOST:PORT", allow_hyphen_values = true)]
        address: String,
        /// The address is fixed: KUBERNETES_SERVICE_HOST is not looked at.
        #[arg(long)]
        fixed: bool,
    },
    /// Until a file is there.
    File {
        /// Its path.
        path: PathBuf,
    },
    /// Until iptables-save, which the image has to hold, shows a rule.
    Iptables {
        /// The rule, or a part of it, as iptables-save writes it.
        #[arg(allow_hyphen_values = true)]
        rule: String,
    },
    /// Until a node has a condition; the pod's service account must be allowed to get nodes.
    Condition {
        /// TYPE, or TYPE=True, TYPE=False, TYPE=Unknown.
        #[arg(value_name = "TYPE[=STATUS]")]
        condition: String,
        /// The node, as $(NODE_NAME) from spec.nodeName gives it.
        #[arg(long, value_name = "NAME", env = "NODE_NAME")]
        node: String,
    },
}

/// `fix`. What is to be done, and to what, is said each time and is no setting.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fix {
    /// The fixes: aws-node-wait, or wait-for:kube-system/kiam-agent for one of any DaemonSet; all that name their
    /// own DaemonSet where none is given.
    #[arg(value_name = "FIX")]
    #[serde(skip)]
    pub fixes: Vec<String>,
    /// Apply the named fixes, follow the restart of the pods, and take it back if it does harm.
    #[arg(long, conflicts_with_all = ["revert", "list"], requires = "fixes", help_heading = "What is done")]
    #[serde(skip)]
    pub apply: bool,
    /// Take the named fixes back, unless somebody has changed since what they wrote.
    #[arg(long, conflicts_with = "list", requires = "fixes", help_heading = "What is done")]
    #[serde(skip)]
    pub revert: bool,
    /// List the fixes there are; asks no cluster.
    #[arg(long, help_heading = "What is done")]
    #[serde(skip)]
    pub list: bool,
    /// Take over, as a whole, lists and objects that another manager sets; kept for --revert.
    #[arg(long, help_heading = "How")]
    #[serde(skip_serializing_if = "is_false")]
    pub take_ownership: bool,
    /// Leave the pods of present nodes as they are: new nodes take the fix up, the next --apply the rest.
    #[arg(long, help_heading = "How")]
    #[serde(skip_serializing_if = "is_false")]
    pub on_new_nodes_only: bool,
    /// The image of init containers that wait; fastnode has to be in it.
    #[arg(long, value_name = "IMAGE", help_heading = "How")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiter_image: Option<String>,
    /// A fix of one's own, or a directory of them; may be repeated.
    #[arg(long, value_name = "FILE", help_heading = "How")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fix_file: Vec<String>,
    /// How long one new pod may take to be ready.
    #[arg(long, value_name = "DURATION|never", help_heading = "How")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate_timeout: Option<String>,
    /// Where.
    #[command(flatten)]
    #[serde(flatten)]
    pub access: Access,
    /// What is written, and whether it asks.
    #[command(flatten)]
    #[serde(flatten)]
    pub run: Run,
    /// On the simulator.
    #[command(flatten)]
    #[serde(flatten)]
    pub simulator: Simulator,
}

/// Flags of every verb.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "General")]
#[serde(rename_all = "kebab-case")]
pub struct General {
    /// Read settings from this file.
    #[arg(long, value_name = "FILE", global = true)]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// What goes to standard output: bars or lines for people, lines for logs, or JSON for programs.
    #[arg(short, long, value_name = "FORMAT", value_parser = ["human", "plain", "json"], global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Colours.
    #[arg(long, value_name = "WHEN", value_parser = ["auto", "always", "never"], global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    /// What fastnode logs about itself to standard error: error, warn, info, debug, trace, or a filter.
    #[arg(long, value_name = "LEVEL", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    /// Only errors, and what was given up.
    #[arg(short, long, conflicts_with = "verbose", global = true)]
    #[serde(skip_serializing_if = "is_false")]
    pub quiet: bool,
    /// Every wait, pod and action.
    #[arg(short, long, global = true)]
    #[serde(skip_serializing_if = "is_false")]
    pub verbose: bool,
}

/// `rotate`.
#[derive(Debug, Args, Serialize)]
pub struct Rotate {
    /// Where.
    #[command(flatten)]
    #[serde(flatten)]
    pub access: Access,
    /// How.
    #[command(flatten)]
    #[serde(flatten)]
    pub policy: PolicyArgs,
    /// What is written, and whether it asks.
    #[command(flatten)]
    #[serde(flatten)]
    pub run: Run,
    /// On the simulator.
    #[command(flatten)]
    #[serde(flatten)]
    pub simulator: Simulator,
}

/// `plan`.
#[derive(Debug, Args, Serialize)]
pub struct Plan {
    /// Where.
    #[command(flatten)]
    #[serde(flatten)]
    pub access: Access,
    /// How.
    #[command(flatten)]
    #[serde(flatten)]
    pub policy: PolicyArgs,
    /// On the simulator.
    #[command(flatten)]
    #[serde(flatten)]
    pub simulator: Simulator,
}

/// `measure`.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Measure {
    /// Where.
    #[command(flatten)]
    #[serde(flatten)]
    pub access: Access,
    /// Which nodes.
    #[command(flatten)]
    #[serde(flatten)]
    pub nodes: Nodes,
    /// What makes a new node functional beside Ready, as for rotate.
    #[arg(long, value_name = "GATE", help_heading = "What is measured")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// The surge that a rotation would have; what a change is worth depends on it.
    #[arg(long, value_name = "N|N%|auto", help_heading = "What a change is worth")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub surge: Option<String>,
    /// Old nodes of a group that would drain at the same time.
    #[arg(long, value_name = "N|N%", help_heading = "What a change is worth")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drains: Option<String>,
    /// An earlier measurement (fastnode measure -o json) to compare with.
    #[arg(long, value_name = "FILE", help_heading = "What a change is worth")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare: Option<String>,
    /// Write a picture (.svg, .html) or the figures (.json) to this file too, by its name; may be repeated.
    #[arg(long, value_name = "FILE", help_heading = "What is written")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub report: Vec<String>,
    /// On the simulator.
    #[command(flatten)]
    #[serde(flatten)]
    pub simulator: Simulator,
}

/// `status`.
#[derive(Debug, Args, Serialize)]
pub struct Status {
    /// Where.
    #[command(flatten)]
    #[serde(flatten)]
    pub access: Access,
    /// On the simulator.
    #[command(flatten)]
    #[serde(flatten)]
    pub simulator: Simulator,
}

/// `pause` and `resume`.
#[derive(Debug, Args, Serialize)]
pub struct Ask {
    /// Where.
    #[command(flatten)]
    #[serde(flatten)]
    pub access: Access,
    /// On the simulator.
    #[command(flatten)]
    #[serde(flatten)]
    pub simulator: Simulator,
}

/// `abort`.
#[derive(Debug, Args, Serialize)]
pub struct Abort {
    /// Where.
    #[command(flatten)]
    #[serde(flatten)]
    pub access: Access,
    /// Write every event as a line of JSON to this file too.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<String>,
    /// On the simulator.
    #[command(flatten)]
    #[serde(flatten)]
    pub simulator: Simulator,
}

/// `doctor`.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Doctor {
    /// Where.
    #[command(flatten)]
    #[serde(flatten)]
    pub access: Access,
    /// Which nodes.
    #[command(flatten)]
    #[serde(flatten)]
    pub nodes: Nodes,
    /// What a node cannot do without, as for rotate.
    #[arg(long, value_name = "GATE", help_heading = "What is looked at")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// Suspected pods whose logs are read, at most.
    #[arg(long, value_name = "N", help_heading = "What is looked at")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_pods: Option<String>,
    /// On the simulator.
    #[command(flatten)]
    #[serde(flatten)]
    pub simulator: Simulator,
}

/// Which nodes: all of the cluster, unless narrowed.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Which nodes")]
#[serde(rename_all = "kebab-case")]
pub struct Nodes {
    /// Only this Auto Scaling group; may be repeated.
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<String>,
    /// Only this node, outdated or not; may be repeated.
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub node: Vec<String>,
    /// Only nodes with these labels: pool=web,arch in (arm64),!gpu.
    #[arg(short = 'l', long, value_name = "LABELS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

/// Which cluster, and how to get at it.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Cluster and access")]
#[serde(rename_all = "kebab-case")]
pub struct Access {
    /// The EKS cluster.
    #[arg(short, long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The AWS region; else as the AWS variables, profile or instance say.
    #[arg(long, value_name = "REGION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The AWS profile.
    #[arg(long, value_name = "PROFILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A kubeconfig, instead of the cluster's endpoint from EKS and a token from the AWS credentials.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<String>,
    /// A context of the kubeconfig.
    #[arg(long, value_name = "CONTEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The namespace of fastnode's Lease and ConfigMaps.
    #[arg(long, value_name = "NAMESPACE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_namespace: Option<String>,
}

/// The policy.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicyArgs {
    /// Which nodes.
    #[command(flatten)]
    #[serde(flatten)]
    pub nodes: Nodes,
    /// Also nodes launched longer ago than this, current or not: 30d.
    #[arg(long, value_name = "DURATION", help_heading = "What is rotated")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// Also nodes that are current.
    #[arg(long, help_heading = "What is rotated")]
    #[serde(skip_serializing_if = "is_false")]
    pub force: bool,
    /// Why, for the rotation's record.
    #[arg(long, value_name = "TEXT", help_heading = "What is rotated")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,

    /// Instances above a group's own desired capacity: N, N%, or auto (as many as keep launching off the
    /// critical path).
    #[arg(long, value_name = "N|N%|auto", help_heading = "How fast")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub surge: Option<String>,
    /// Functional nodes a group may be below its own desired capacity.
    #[arg(long, value_name = "N|N%", help_heading = "How fast")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// Raise a group's maximum for the time of the rotation where the surge needs it.
    #[arg(long, help_heading = "How fast")]
    #[serde(skip_serializing_if = "is_false")]
    pub raise_max: bool,
    /// Old nodes of a group that drain at the same time.
    #[arg(long, value_name = "N|N%", help_heading = "How fast")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drains: Option<String>,
    /// The same over the whole cluster.
    #[arg(long, value_name = "N", help_heading = "How fast")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_drains: Option<String>,
    /// New nodes of a group that must be functional before the pace rises; 0: none.
    #[arg(long, value_name = "N", help_heading = "How fast")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,

    /// What makes a new node functional beside Ready: auto (the DaemonSets that make a node a node), none,
    /// or DaemonSets by name, separated by commas.
    #[arg(long, value_name = "GATE", help_heading = "When a new node is functional")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// Restarts of a gated container: zero are allowed, as many as the baseline of the old nodes, or warn.
    #[arg(long, value_name = "RULE", value_parser = ["zero", "baseline", "warn"])]
    #[arg(help_heading = "When a new node is functional")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<String>,
    /// How long a node must stay functional before it counts.
    #[arg(long, value_name = "DURATION", help_heading = "When a new node is functional")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak: Option<String>,

    /// First eviction to last pod gone.
    #[arg(long, value_name = "DURATION|never", help_heading = "What may take how long")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<String>,
    /// Launch to the Node's registration.
    #[arg(long, value_name = "DURATION|never", help_heading = "What may take how long")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_timeout: Option<String>,
    /// Registration to functional.
    #[arg(long, value_name = "DURATION|never", help_heading = "What may take how long")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate_timeout: Option<String>,
    /// Terminate call to the instance gone.
    #[arg(long, value_name = "DURATION|never", help_heading = "What may take how long")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminate_timeout: Option<String>,
    /// When one of these runs out: wait on, skip the node (exit 5 at the end), or stop (exit 4).
    #[arg(long, value_name = "WHAT", value_parser = ["wait", "skip", "stop"])]
    #[arg(help_heading = "What may take how long")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_stuck: Option<String>,

    /// After the drain time-out, delete pods past their disruption budget. Asks for the cluster's name;
    /// without a terminal it must be given: --past-budgets=CLUSTER. --yes does not answer it.
    #[arg(long, value_name = "CLUSTER", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = config::ASK, help_heading = "What it may do to pods")]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub past_budgets: Option<String>,
    /// Rotate nodes in spite of safe-to-evict: "false" and do-not-disrupt annotations.
    #[arg(long, help_heading = "What it may do to pods")]
    #[serde(skip_serializing_if = "is_false")]
    pub ignore_opt_outs: bool,
    /// Evict pods that keep data in an emptyDir; the data is lost.
    #[arg(long, help_heading = "What it may do to pods")]
    #[serde(skip_serializing_if = "is_false")]
    pub delete_emptydir_data: bool,
    /// Evict pods that no controller will make again.
    #[arg(long, help_heading = "What it may do to pods")]
    #[serde(skip_serializing_if = "is_false")]
    pub force_unmanaged: bool,

    /// Failed replacements after the canary before it stops; a failed canary always stops it.
    #[arg(long, value_name = "N", help_heading = "When something fails")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_budget: Option<String>,
    /// Leave a failed replacement standing for a look.
    #[arg(long, help_heading = "When something fails")]
    #[serde(skip_serializing_if = "is_false")]
    pub keep_failed: bool,
    /// When a group's target changes in the middle: stop (exit 5), or go on for the new one from its canary.
    #[arg(long, value_name = "WHAT", value_parser = ["stop", "recanary"], help_heading = "When something fails")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_target_change: Option<String>,
    /// What is done with what slows new nodes down, or makes them fail: told with the command that mends it, mended one
    /// after the other and proved on the next new node, or nothing.
    #[arg(long, value_name = "WHAT", value_parser = ["suggest", "apply", "off"], help_heading = "When something fails")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixes: Option<String>,
    /// The image of init containers that wait, for --fixes apply; fastnode has to be in it.
    #[arg(long, value_name = "IMAGE", help_heading = "When something fails")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiter_image: Option<String>,
    /// A fix of one's own for --fixes, or a directory of them; may be repeated.
    #[arg(long, value_name = "FILE", help_heading = "When something fails")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fix_file: Vec<String>,
}

/// How it is run.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Running it")]
#[serde(rename_all = "kebab-case")]
pub struct Run {
    /// Do not ask; needed where standard input is no terminal.
    #[arg(short, long)]
    #[serde(skip_serializing_if = "is_false")]
    pub yes: bool,
    /// Write every event as a line of JSON to this file too.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<String>,
}

/// The simulator.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Simulator")]
#[serde(rename_all = "kebab-case")]
pub struct Simulator {
    /// Run on a simulated cluster: a built-in scenario (demo when none is named) or a scenario file.
    #[arg(long, value_name = "SCENARIO", num_args = 0..=1, default_missing_value = "demo")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub simulate: Option<String>,
    /// The same seed gives the same run.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<String>,
    /// auto (about 20 s in a terminal, else max), max, or a multiple of real time such as 60x.
    #[arg(long, value_name = "SPEED")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Verb {
    /// The flags that were given, by key.
    ///
    /// # Errors
    /// If a flag cannot be written as a setting, which none can be.
    pub fn flags(&self) -> Result<Table, toml::ser::Error> {
        match self {
            Self::Rotate(args) => table(args),
            Self::Plan(args) => table(args),
            Self::Status(args) => table(args),
            Self::Measure(args) => table(args),
            Self::Pause(args) | Self::Resume(args) => table(args),
            Self::Abort(args) => table(args),
            Self::Doctor(args) => table(args),
            Self::Fix(args) => table(args),
            Self::Await(_) | Self::Config(_) | Self::Completions { .. } | Self::Man { .. } => Ok(Table::new()),
        }
    }
}

/// The flags of `args` that were given, by key.
///
/// # Errors
/// If a flag cannot be written as a setting, which none can be.
pub fn table(args: &impl Serialize) -> Result<Table, toml::ser::Error> {
    let table = Table::try_from(args)?;
    // A flag that takes no value is text like every other: `true`.
    let text = |value| match value {
        Value::Boolean(yes) => Value::String(yes.to_string()),
        other => other,
    };
    Ok(table.into_iter().map(|(key, value)| (key, text(value))).collect())
}

/// Flags whose value is a number, a share or a duration, never a word that could be another flag.
const NUMBERS: [&str; 14] = [
    "surge",
    "unavailable",
    "drains",
    "max-drains",
    "canary",
    "failure-budget",
    "older-than",
    "soak",
    "drain-timeout",
    "join-timeout",
    "gate-timeout",
    "terminate-timeout",
    "seed",
    "speed",
];

/// The command with each flag's default, taken from `config/default.toml`, in its help.
pub fn command() -> clap::Command {
    let defaults: Table = config::DEFAULTS.parse().unwrap_or_default();
    with_defaults(Cli::command(), &defaults)
}

fn with_defaults(command: clap::Command, defaults: &Table) -> clap::Command {
    let shown = |value: &Value| match value {
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Integer(n) => Some(n.to_string()),
        _ => None,
    };
    let command = command.mut_args(|arg| {
        // `-1` is told what would be right there, not that there is no flag -1.
        let arg = if arg.get_long().is_some_and(|long| NUMBERS.contains(&long)) {
            arg.allow_hyphen_values(true)
        } else {
            arg
        };
        let default = arg.get_long().and_then(|long| defaults.get(long)).and_then(shown);
        match (default, arg.get_help().cloned()) {
            (Some(default), Some(help)) => arg.help(format!("{help} [default: {default}]")),
            _ => arg,
        }
    });
    command.mut_subcommands(|verb| with_defaults(verb, defaults))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn longs(command: &clap::Command, found: &mut BTreeSet<String>) {
        found.extend(command.get_arguments().filter_map(|a| a.get_long()).map(str::to_owned));
        command.get_subcommands().for_each(|c| longs(c, found));
    }

    #[test]
    fn every_flag_has_a_key_and_every_key_a_flag() {
        let mut flags = BTreeSet::new();
        longs(&Cli::command(), &mut flags);
        // A file cannot name itself, these two answer at once, `await` reads no settings, and `fix` is told each time
        // what to do.
        let of_fix = ["apply", "revert", "list"];
        for own in ["config", "help", "version", "timeout", "interval", "fixed"].into_iter().chain(of_fix) {
            flags.remove(own);
        }
        let defaults: Table = config::DEFAULTS.parse().unwrap();
        assert_eq!(flags, defaults.keys().cloned().collect());
    }

    #[test]
    fn a_flag_given_becomes_its_setting_and_one_left_out_does_not() {
        let cli = Cli::parse_from(["fastnode", "rotate", "--surge", "10%", "--force", "--group", "a", "--group", "b"]);
        let flags = cli.verb.flags().unwrap();
        assert_eq!(flags.keys().collect::<Vec<_>>(), ["force", "group", "surge"]);
        assert_eq!(flags["force"], Value::String("true".to_owned()));
    }

    #[test]
    fn flags_with_an_optional_value_take_none_too() {
        let cli = Cli::parse_from(["fastnode", "rotate", "--simulate", "--past-budgets", "--yes"]);
        let flags = cli.verb.flags().unwrap();
        assert_eq!(flags["simulate"].as_str(), Some("demo"));
        assert_eq!(flags["past-budgets"].as_str(), Some(config::ASK));
    }

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }
}
