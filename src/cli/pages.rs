//! What is made from the command line's own description: completions, manual pages, `docs/cli.md`.

use std::path::Path;

use clap_complete::Shell;

use super::args::command;
use super::exit::Exit;
use super::failure::Failure;

/// A shell's completions.
pub fn completions(shell: Shell) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut command(), "fastnode", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Writes a manual page for fastnode and one for each verb.
///
/// # Errors
/// If the directory cannot be made or written to.
pub fn manual(dir: &Path) -> Result<(), Failure> {
    let write = || {
        std::fs::create_dir_all(dir)?;
        clap_mangen::generate_to(command(), dir)
    };
    write()
        .map_err(|e| Failure::new(Exit::Usage, format!("failed to write the manual pages to {}: {e}", dir.display())))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use clap::Command;

    use super::*;

    /// `docs/cli.md`.
    fn markdown() -> String {
        let mut out = "# Command line\n\nMade from the command itself by `just docs`; do not edit.\n".to_owned();
        let mut root = command().max_term_width(100).term_width(100);
        root.build();
        section(&mut out, &mut root, "fastnode");
        out
    }

    fn section(out: &mut String, command: &mut Command, name: &str) {
        // A verb of verbs has a help of its own that says nothing more than theirs.
        let help = command.render_long_help().to_string();
        let help: Vec<_> = help.lines().map(str::trim_end).collect();
        let _ = write!(out, "\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end());
        for verb in command.get_subcommands_mut() {
            let name = format!("{name} {}", verb.get_name());
            section(out, verb, &name);
        }
    }

    #[test]
    fn the_documented_command_line_is_the_real_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
        let real = markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &real).unwrap();
        }
        let documented = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(documented == real, "docs/cli.md is stale: run `UPDATE_DOCS=1 cargo test --lib documented`");
    }
}
