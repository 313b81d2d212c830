use super::*;
use crate::policy::Policy;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

/// What a file's text is refused with, its path shortened.
fn refused(text: &str) -> String {
    let (_dir, path) = file(text);
    let read = Config::defaults().unwrap().with_file(&path).and_then(|c| c.policy().and(c.speed().map(|_| ())));
    read.unwrap_err().to_string().replace(&path.display().to_string(), "FILE")
}

#[test]
fn the_shipped_defaults_are_the_default_policy() {
    assert_eq!(Config::defaults().unwrap().policy().unwrap(), Policy::default());
}

#[test]
fn every_default_has_its_comment() {
    let mut commented = false;
    for line in DEFAULTS.lines() {
        let key = line.split_once(" = ").map(|(key, _)| key).filter(|k| !k.starts_with('#'));
        if let Some(key) = key {
            assert!(commented, "{key} has no comment");
        }
        commented = line.starts_with("# ") && !line.starts_with("# ---");
    }
}

#[test]
fn later_layers_win_and_every_value_knows_its_source() {
    let (_dir, path) = file("surge = 3\ndrains = \"10%\"\n\ncanary = 2\n");
    let variables = [("FASTNODE_DRAINS".to_owned(), "20%".to_owned()), ("FASTNODE_CANARY".to_owned(), String::new())];
    let mut flags = Table::new();
    flags.insert("surge".to_owned(), Value::String("5".to_owned()));
    let config = Config::defaults().unwrap().with_file(&path).unwrap().with_environment(variables).with_flags(flags);
    let policy = config.policy().unwrap();
    assert_eq!((policy.surge.to_string(), policy.drains.to_string(), policy.canary), ("5".into(), "20%".into(), 2));
    assert_eq!(config.source("surge"), Some(&Source::Flag("--surge".to_owned())));
    assert_eq!(config.source("drains"), Some(&Source::Variable("FASTNODE_DRAINS".to_owned())));
    assert_eq!(config.source("canary"), Some(&Source::File { path, line: 4 }));
    assert_eq!(config.source("soak"), Some(&Source::Default));
}

#[test]
fn a_wrong_file_is_refused_with_line_key_value_and_what_would_be_right() {
    for (text, message) in [
        (
            "\nsurge = \"110%\"",
            "failed to read surge (FILE, line 2): \"110%\" is not a number of nodes such as 3, or a percentage from 0% to 100%, or auto",
        ),
        ("canary = \"1\"", "failed to read canary (FILE, line 1): \"1\" is not a whole number from 0"),
        ("canary = -1", "failed to read canary (FILE, line 1): -1 is not a whole number from 0"),
        ("force = 1", "failed to read force (FILE, line 1): 1 is not true or false"),
        (
            "group = \"web\"",
            "failed to read group (FILE, line 1): \"web\" is not a list of texts in quotes, such as [\"a\", \"b\"]",
        ),
        ("soak = 10", "failed to read soak (FILE, line 1): \"10\" is not a duration such as 90s, 15m or 1h30m"),
        (
            "soak = \"20m\"\ngate-timeout = \"1m\"",
            "failed to read soak (FILE, line 1): 20m00s is longer than the 1m00s of gate-timeout (FILE, line 2), within which \
             a node has to become functional, its soak included",
        ),
        (
            "drain-timeout = \"0s\"",
            "failed to read drain-timeout (FILE, line 1): \"0s\" is not a duration above 0 such as 15m or 1h30m, or never",
        ),
        ("on-stuck = \"retry\"", "failed to read on-stuck (FILE, line 1): \"retry\" is not one of wait, skip, stop"),
        (
            "drains = 0",
            "failed to read drains (FILE, line 1): \"0\" would drain nothing; give a number from 1, or a percentage from 1% to 100%",
        ),
        (
            "gate = [\"auto\", \"aws-node\"]",
            "failed to read gate (FILE, line 1): \"[\\\"auto\\\", \\\"aws-node\\\"]\" is not auto, none, or names of DaemonSets such as aws-node or monitoring/node-exporter",
        ),
        (
            "speed = \"0x\"",
            "failed to read speed (FILE, line 1): \"0x\" is not auto, max, or a multiple of real time such as 60x",
        ),
        (
            "# ok\ndrain_timeout = \"5m\"",
            "failed to read the configuration file FILE, line 2: there is no key \"drain_timeout\"; \"drain-timeout\" is the nearest one",
        ),
        (
            "[rotate]\nsurge = 1",
            "failed to read the configuration file FILE, line 1: there is no key \"rotate\"; fastnode config list shows all keys",
        ),
    ] {
        assert_eq!(refused(text), message, "{text}");
    }
    assert!(
        refused("surge = 1\nsurge = 2").starts_with("failed to read the configuration file FILE, line 2: duplicate")
    );
}

#[test]
fn a_gate_is_a_word_or_names() {
    for (text, gate) in [
        ("gate = \"none\"", crate::policy::Gate::None),
        ("gate = [\"kube-system/aws-node\", \"kube-proxy\"]", {
            crate::policy::Gate::Named(["kube-system/aws-node".to_owned(), "kube-proxy".to_owned()].into())
        }),
    ] {
        let (_dir, path) = file(text);
        assert_eq!(Config::defaults().unwrap().with_file(&path).unwrap().policy().unwrap().gate, gate);
    }
}

#[test]
fn misspelt_variables_are_noticed_and_those_of_a_service_are_not() {
    let names = ["FASTNODE_DRIANS", "FASTNODE_SERVICE_HOST", "FASTNODE_PORT_443_TCP", NODE_VARIABLE, CONFIG_VARIABLE];
    let config = Config::defaults().unwrap().with_environment(names.map(|n| (n.to_owned(), "x".to_owned())));
    assert_eq!(config.unknown_variables, ["FASTNODE_DRIANS"]);
}

#[test]
fn the_default_file_follows_the_xdg_rules() {
    let find = |variables: &[(&str, &str)]| {
        let variables: Vec<_> = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        default_file(|name| variables.iter().find(|(n, _)| n == name).map(|(_, v)| v.into()))
    };
    assert_eq!(find(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]), Some("/x/fastnode/config.toml".into()));
    assert_eq!(
        find(&[("XDG_CONFIG_HOME", "relative"), ("HOME", "/h")]),
        Some("/h/.config/fastnode/config.toml".into())
    );
    assert_eq!(find(&[]), None);
}
