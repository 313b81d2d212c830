//! What the user types: one file a verb; errors, hints and exit codes.

mod abort;
pub mod args;
mod ask;
mod r#await;
mod config;
mod doctor;
pub mod exit;
pub mod failure;
mod fix;
mod log;
mod measure;
mod pages;
mod plan;
pub mod printer;
mod prompt;
mod rotate;
mod scope;
mod signals;
mod status;
mod telling;
pub mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::FromArgMatches;

use self::args::{Cli, ConfigVerb, Verb};
use self::exit::Exit;
use self::failure::{Failure, chain};
use self::printer::Printer;
use crate::config::{CONFIG_VARIABLE, Config, default_file};
use crate::report::text::Paint;

/// Runs the command line; the exit code says how it went.
pub fn main() -> ExitCode {
    let matches = args::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    let mut paint = Paint::default();
    let exit = run(cli, &mut paint).unwrap_or_else(|failure| {
        log::finish();
        printer::complain(&failure.text(paint));
        failure.exit
    });
    log::finish();
    let lost = printer::lost();
    lost.iter().for_each(|what| printer::complain(&Failure::new(Exit::Unexpected, what.as_str()).text(paint)));
    // What went wrong by itself says more.
    if !lost.is_empty() && exit.is_good() { Exit::Unexpected.into() } else { exit.into() }
}

fn run(cli: Cli, paint: &mut Paint) -> Result<Exit, Failure> {
    match &cli.verb {
        Verb::Completions { shell } => {
            printer::data(&pages::completions(*shell));
            return Ok(Exit::Done);
        }
        Verb::Man { dir } => return pages::manual(dir).map(|()| Exit::Done),
        Verb::Await(args) => return r#await::wait(args),
        _ => {}
    }
    let config = configure(&cli)?;
    let printer = Printer::new(&config)?;
    *paint = printer.error_paint;
    log::start(&config, printer.error_paint)?;
    match cli.verb {
        Verb::Rotate(_) => rotate::rotate(config, printer),
        Verb::Plan(_) => plan::plan(config, printer),
        Verb::Status(_) => status::status(config, printer),
        Verb::Measure(_) => measure::measure(config, printer),
        Verb::Pause(_) => ask::ask(config, printer, true),
        Verb::Resume(_) => ask::ask(config, printer, false),
        Verb::Abort(_) => abort::abort(config, printer),
        Verb::Doctor(_) => doctor::doctor(config, printer),
        Verb::Fix(args) => fix::fix(config, printer, &args),
        Verb::Config(ConfigVerb::List) => {
            config::list(&config, &printer);
            Ok(Exit::Done)
        }
        Verb::Await(_) | Verb::Completions { .. } | Verb::Man { .. } => Ok(Exit::Done),
    }
}

/// All layers of settings.
fn configure(cli: &Cli) -> Result<Config, Failure> {
    let config = Config::defaults()?;
    let named = cli.general.config.clone();
    let named = named.or_else(|| std::env::var_os(CONFIG_VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from));
    let file = named.or_else(|| default_file(|name| std::env::var_os(name)).filter(|path| path.exists()));
    let config = match file {
        Some(path) => config.with_file(&path)?,
        None => config,
    };
    // A variable that is not text names no setting of ours.
    let variables = std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
    let unreadable = |e: toml::ser::Error| Failure::new(Exit::Unexpected, chain(&e));
    let flags = cli.verb.flags().map_err(unreadable)?;
    let general = args::table(&cli.general).map_err(unreadable)?;
    Ok(config.with_environment(variables).with_flags(general).with_flags(flags))
}
