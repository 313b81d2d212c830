//! The fixes as data: those in `config/fixes/`, embedded, and the user's own in the same form.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::check::{check, is_name, several};
use crate::model::ObjectKey;
use crate::readiness::diagnosis::Finding;

/// The fixes that are shipped.
const SHIPPED: [(&str, &str); 7] = [
    ("addon-update.yaml", include_str!("../../config/fixes/addon-update.yaml")),
    ("aws-node-wait.yaml", include_str!("../../config/fixes/aws-node-wait.yaml")),
    ("aws-node-wait-address.yaml", include_str!("../../config/fixes/aws-node-wait-address.yaml")),
    ("cluster-endpoint.yaml", include_str!("../../config/fixes/cluster-endpoint.yaml")),
    ("kube-proxy-hostname-override.yaml", include_str!("../../config/fixes/kube-proxy-hostname-override.yaml")),
    ("startup-taint.yaml", include_str!("../../config/fixes/startup-taint.yaml")),
    ("wait-for.yaml", include_str!("../../config/fixes/wait-for.yaml")),
];

/// Where a DaemonSet is whose namespace is not named.
const NAMESPACE: &str = "kube-system";

/// A fix, as its file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fix {
    /// Its name: lower case, digits and dashes, at most 40.
    pub fix: String,
    /// What it does, in a line.
    pub summary: String,
    /// Why that helps.
    pub reason: String,
    /// What it changes.
    pub target: Target,
    /// The EKS add-on that installs the target, by the name of the DaemonSet.
    #[serde(default)]
    pub addons: BTreeMap<String, String>,
    /// What must hold for it to make sense here.
    #[serde(default)]
    pub applies_when: AppliesWhen,
    /// Each of these means that the target has it already.
    #[serde(default)]
    pub detect: Vec<Form>,
    /// The change.
    pub patch: Patch,
    /// What the next new node has to show.
    #[serde(default)]
    pub verify: Verify,
    /// How it is taken back.
    pub revert: Revert,
    /// What to set in the chart's values instead, where Helm manages the target.
    #[serde(default)]
    pub helm: Option<String>,
}

/// What a fix changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Target {
    /// `namespace/name`, or `any`: then it is named with the fix, `wait-for:kiam-agent`.
    pub daemonset: String,
    /// The container; the first where none is named.
    #[serde(default)]
    pub container: Option<String>,
}

/// What must hold, all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AppliesWhen {
    /// kube-proxy runs here (or does not): something else writes the rules of Services otherwise.
    #[serde(default)]
    pub kube_proxy: Option<bool>,
    /// Its mode is one of these.
    #[serde(default)]
    pub proxy_modes: Vec<String>,
    /// The image of the container has at least this version: `v1.12.1`.
    #[serde(default)]
    pub image_at_least: Option<String>,
    /// The pods are on the host's network (or are not).
    #[serde(default)]
    pub host_network: Option<bool>,
}

/// A form in which a target may have a fix already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Form {
    /// An argument, in `command` or `args`, whose value is the variable of a field: `--flag=$(NAME)`, or the two
    /// apart, under whatever name the variable has.
    Argument {
        /// `--hostname-override`
        name: String,
        /// `spec.nodeName`
        field: String,
    },
    /// A key of a configuration file in a ConfigMap that is not empty.
    ConfigFile {
        /// `namespace/name`
        config_map: String,
        /// The key of the ConfigMap's data.
        key: String,
        /// The key at the file's top.
        field: String,
        /// It has to be another on each node. All nodes have the same ConfigMap: only a value that something fills in
        /// on each of them, one with a `$` or `{{` in it, counts.
        #[serde(default)]
        per_node: bool,
    },
    /// A variable of the container that is not empty.
    Env(String),
    /// The same of a variable that programs read from a version on: an older image, or one that does not tell its
    /// version, has nothing of it.
    EnvSince {
        /// Its name.
        name: String,
        /// `v1.12.1`
        image_at_least: String,
    },
    /// An init container whose command and arguments hold each of these.
    InitContainer(Vec<String>),
}

/// A change; one of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Patch {
    /// An argument, whose value is a field of the pod by the downward API.
    Argument {
        /// `--hostname-override`
        name: String,
        /// The variable that carries it.
        env: String,
        /// `spec.nodeName`
        field: String,
    },
    /// A variable of the container.
    Env {
        /// Its name.
        name: String,
        /// Its value; `${endpoint}` is the cluster's.
        value: String,
        /// Where the add-on's configuration takes it, the first that its schema allows: `env.NAME`, or `extraEnv[]`
        /// for a list of names and values.
        #[serde(default)]
        addon_values: Vec<String>,
    },
    /// Init containers that wait, in this order, for each of these.
    Wait {
        /// For what.
        #[serde(rename = "for")]
        goals: Vec<Goal>,
        /// How long each waits at most before it starts over.
        #[serde(default = "patience")]
        timeout: String,
    },
    /// A taint that new nodes register with and the driver takes away.
    StartupTaint {
        /// The taint's key, by the name of the DaemonSet.
        keys: BTreeMap<String, String>,
        /// `NoExecute` or `NoSchedule`.
        effect: String,
    },
    /// The add-on's default version for this cluster.
    AddonUpdate {},
}

fn patience() -> String {
    "10m".to_owned()
}

/// What a pod waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Goal {
    /// An address that accepts connections: `HOST:PORT`, `$(VARIABLE):$(VARIABLE)`, or `${service:namespace/name}`
    /// for the fixed address of a Service.
    Tcp(String),
    /// A file on the node.
    File(String),
    /// A rule that iptables-save shows; the waiter's image must hold that program.
    Iptables(String),
    /// A condition of the node, `TYPE` or `TYPE=STATUS`; the pod's service account must be allowed to get nodes.
    NodeCondition(String),
}

/// What the next new node has to show, compared with those before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Verify {
    /// It is functional at least this much sooner, or has fewer restarts and is no later.
    #[serde(default = "sooner")]
    pub sooner_by: String,
    /// Restarts it may have at most.
    #[serde(default)]
    pub restarts: u32,
}

fn sooner() -> String {
    "5s".to_owned()
}

impl Default for Verify {
    fn default() -> Self {
        Self { sooner_by: sooner(), restarts: 0 }
    }
}

/// How a fix is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Revert {
    /// What was there before is put back, unless somebody has changed it since.
    Restore,
    /// It is not: an add-on's older version is no way back.
    Never,
}

/// A fix and the DaemonSet it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Remedial {
    /// As the user names it: `aws-node-wait`, `wait-for:kube-system/kiam-agent`.
    pub name: String,
    /// The fix.
    pub fix: Fix,
    /// Its DaemonSet.
    pub daemonset: ObjectKey,
    /// The DaemonSet's add-on, where EKS has one.
    pub addon: Option<String>,
}

/// Why a fix cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A file cannot be read.
    #[error("failed to read {path}", path = path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not a fix.
    #[error("failed to read the fix in {path}{at}: {problem}", path = path.display())]
    Malformed {
        /// Its path.
        path: PathBuf,
        /// `, line 3`, where it is known.
        at: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// There is no such fix.
    #[error("failed to find the fix {name:?}: there are {known}")]
    Unknown {
        /// As it was named.
        name: String,
        /// All there are.
        known: String,
    },
    /// The fix is for any DaemonSet, and none was named.
    #[error("failed to tell which DaemonSet {name} is for: name it, as in {name}:kube-system/kiam-agent")]
    NoTarget {
        /// The fix.
        name: String,
    },
    /// What was named is no DaemonSet's name.
    #[error("failed to read the DaemonSet {asked:?}: expected NAMESPACE/NAME, or a name in kube-system")]
    BadTarget {
        /// As it was named.
        asked: String,
    },
    /// The fix has its own DaemonSet, and another was named.
    #[error("failed to use {name} for {asked}: it is for {own}")]
    OtherTarget {
        /// The fix.
        name: String,
        /// As it was named.
        asked: String,
        /// Its own.
        own: String,
    },
}

/// All fixes, by name.
#[derive(Clone, Debug)]
pub struct Catalogue(BTreeMap<String, Fix>);

impl Catalogue {
    /// Those that are shipped.
    ///
    /// # Errors
    /// If one of them is malformed, which a test excludes.
    pub fn shipped() -> Result<Self, CatalogueError> {
        let mut all = BTreeMap::new();
        for (file, text) in SHIPPED {
            let fix = parse(&Path::new("config/fixes").join(file), text)?;
            all.insert(fix.fix.clone(), fix);
        }
        Ok(Self(all))
    }

    /// With the user's own: a file, or every `.yaml` and `.yml` of a directory. One of a shipped fix's name takes
    /// its place.
    ///
    /// # Errors
    /// If one cannot be read or is malformed.
    pub fn with(mut self, path: &Path) -> Result<Self, CatalogueError> {
        let unreadable = |source| CatalogueError::Unreadable { path: path.to_owned(), source };
        let mut files = vec![path.to_owned()];
        if path.is_dir() {
            let entries: Result<Vec<_>, _> = std::fs::read_dir(path).map_err(unreadable)?.collect();
            files = entries.map_err(unreadable)?.into_iter().map(|entry| entry.path()).collect();
            files.retain(|file| file.extension().is_some_and(|end| end == "yaml" || end == "yml"));
            files.sort();
            if files.is_empty() {
                let problem = "the directory holds no .yaml file".to_owned();
                return Err(CatalogueError::Malformed { path: path.to_owned(), at: String::new(), problem });
            }
        }
        for file in files {
            let text = std::fs::read_to_string(&file)
                .map_err(|source| CatalogueError::Unreadable { path: file.clone(), source })?;
            let fix = parse(&file, &text)?;
            self.0.insert(fix.fix.clone(), fix);
        }
        Ok(self)
    }

    /// Every fix, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Fix> {
        self.0.values()
    }

    /// Those that name their own DaemonSet.
    pub fn targeted(&self) -> Vec<Remedial> {
        self.iter().filter_map(|fix| self.find(&fix.fix).ok()).collect()
    }

    /// Names a finding's fix as [`Self::find`] knows it: one of any DaemonSet with the one it was found in; none where
    /// there is no such fix.
    pub fn aim(&self, finding: &mut Finding) {
        let Some(fix) = finding.fix.take() else { return };
        let aimed = finding.daemonset.as_ref().map(|set| format!("{fix}:{set}").into());
        finding.fix = [Some(fix), aimed].into_iter().flatten().find(|name| self.find(name).is_ok());
    }

    /// The fix of this name: `aws-node-wait`, or `wait-for:kiam-agent` for one of any DaemonSet.
    ///
    /// # Errors
    /// If there is none, or the DaemonSet is missing or another than its own.
    pub fn find(&self, name: &str) -> Result<Remedial, CatalogueError> {
        let (fix, asked) = name.split_once(':').map_or((name, None), |(fix, target)| (fix, Some(target)));
        let found = self.0.get(fix).ok_or_else(|| CatalogueError::Unknown {
            name: fix.to_owned(),
            known: self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })?;
        let any = found.target.daemonset == "any";
        if let Some(asked) = asked.filter(|asked| !asked.is_empty() && !is_name(asked)) {
            return Err(CatalogueError::BadTarget { asked: asked.to_owned() });
        }
        let target = match asked.filter(|target| !target.is_empty()) {
            None if any => return Err(CatalogueError::NoTarget { name: fix.to_owned() }),
            None => key(&found.target.daemonset),
            Some(asked) if any || key(asked) == key(&found.target.daemonset) => key(asked),
            Some(asked) => {
                let (name, own) = (fix.to_owned(), found.target.daemonset.clone());
                return Err(CatalogueError::OtherTarget { name, asked: asked.to_owned(), own });
            }
        };
        let name = if any { format!("{fix}:{target}") } else { fix.to_owned() };
        let addon = found.addons.get(&*target.name).filter(|_| &*target.namespace == NAMESPACE).cloned();
        Ok(Remedial { name, fix: found.clone(), daemonset: target, addon })
    }
}

/// `namespace/name`, or a name in kube-system.
pub fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').unwrap_or((NAMESPACE, text));
    ObjectKey::new(namespace, name)
}

fn parse(path: &Path, text: &str) -> Result<Fix, CatalogueError> {
    let malformed = |at: String, problem: String| CatalogueError::Malformed { path: path.to_owned(), at, problem };
    let fix: Fix = serde_saphyr::from_str(text).map_err(|error| {
        let at = error.location().map(|at| format!(", line {}", at.line())).unwrap_or_default();
        // The first line says it; the others show the place in the file.
        let said = error.to_string();
        let said = said.lines().next().unwrap_or_default();
        let problem = said.strip_prefix("error: ").unwrap_or(said);
        let problem = match problem.split_once(": ") {
            Some((place, rest)) if place.starts_with("line ") => rest,
            _ => problem,
        };
        // Its own words are for programs.
        let documents = problem.starts_with("multiple YAML documents");
        let problem = if documents { "it holds several documents: a fix is a file of its own" } else { problem };
        let problem = problem.split(", set DuplicateKeyPolicy").next().unwrap_or(problem);
        let at_once = serde_saphyr::from_str(text).ok().filter(|_| problem.starts_with("expected end of mapping"));
        malformed(at, at_once.as_ref().and_then(several).unwrap_or_else(|| problem.to_owned()))
    })?;
    check(&fix).map_err(|problem| malformed(String::new(), problem))?;
    Ok(fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(Path::new("mine.yaml"), text).unwrap_err().to_string()
    }

    const MINE: &str = "fix: mine\nsummary: s\nreason: r\ntarget: { daemonset: kube-system/x }\nrevert: restore\n";

    #[test]
    fn the_shipped_ones_are_sound_and_named_as_their_files() {
        let catalogue = Catalogue::shipped().unwrap();
        for (file, _) in SHIPPED {
            let name = file.strip_suffix(".yaml").unwrap();
            assert!(catalogue.0.contains_key(name), "{file}");
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/fixes");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), SHIPPED.len(), "a file that is not embedded");
    }

    #[test]
    fn the_one_in_the_documentation_is_sound() {
        let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/fixes.md")).unwrap();
        let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        assert_eq!(parse(Path::new("docs/fixes.md"), example).unwrap().fix, "agent-wait");
        for fix in Catalogue::shipped().unwrap().iter() {
            assert!(page.contains(&format!("| `{}", fix.fix)), "{} is not in docs/fixes.md", fix.fix);
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_file_line_key_and_what_would_be_right() {
        let error = refused(&format!("{MINE}patsch:\n  addon-update: {{}}\n"));
        assert!(error.starts_with("failed to read the fix in mine.yaml, line 6: unknown field `patsch`"), "{error}");
        assert!(error.contains("patch") && !error.contains('\n'), "{error}");
        let error = refused(&format!("{MINE}patch:\n  wait:\n    for:\n      - tpc: a:1\n"));
        assert!(error.contains("line 9") && error.contains("`tpc`") && error.contains("tcp"), "{error}");
    }

    #[test]
    fn a_value_that_cannot_be_is_refused() {
        assert!(refused(&format!("{MINE}patch: {{ wait: {{ for: [] }} }}\n")).contains("patch.wait.for"));
        let late = format!("{MINE}patch: {{ wait: {{ for: [{{ tcp: 'a:1' }}], timeout: soon }} }}\n");
        assert!(refused(&late).contains("\"soon\" is not a duration"));
        assert!(refused(&MINE.replace("mine", "My Fix")).contains("patch"));
    }

    #[test]
    fn what_could_never_work_is_refused() {
        let goal = |goal: &str| refused(&format!("{MINE}patch: {{ wait: {{ for: [{goal}] }} }}\n"));
        let addresses = [
            "${address:kube-system/kube-dns}",
            "${service:kube-system/kube-dns}:53",
            "$(X):99999",
            "10.0.0.1:0",
            "https://a:80",
            "a b:80",
            " a:80",
            "${endpoint}",
            "$(X)",
            "a",
            ":80",
        ];
        for address in addresses {
            let error = goal(&format!("{{ tcp: '{address}' }}"));
            assert!(error.contains("patch.wait.for.tcp") && error.contains(address), "{error}");
        }
        for path in ["/", "/x", "/../../etc/x", "/etc//x", "/etc/./x", "etc/x", "/run/$(NODE)/x", "/a:b/x", "/etc/"] {
            let error = goal(&format!("{{ file: '{path}' }}"));
            assert!(error.contains("patch.wait.for.file"), "{error}");
        }
        assert!(goal("{ node-condition: 'Rea dy' }").contains("node-condition"));
        for form in ["init-container: []", "init-container: ['']", "env: ''", "argument: { name: x, field: a.b }"] {
            let error = refused(&format!("{MINE}patch: {{ addon-update: {{}} }}\ndetect: [{{ {form} }}]\n"));
            assert!(error.contains("detect."), "{error}");
        }
        let right =
            ["fd00::1:80", "[fd00::1]:80", "$(A_B):443", "a.b:1", "${address:a/b}:53", "${service:a/b}", "$(H):$(P)"];
        let goals: Vec<_> = right.iter().map(|address| format!("{{ tcp: '{address}' }}")).collect();
        let sound = format!("{MINE}patch: {{ wait: {{ for: [{}, {{ file: /run/x }}] }} }}\n", goals.join(", "));
        parse(Path::new("mine.yaml"), &sound).unwrap();
    }

    #[test]
    fn two_where_one_is_to_be_are_both_named() {
        let error = refused(&format!("{MINE}patch: {{ wait: {{ for: [{{ file: /a/x, tcp: 'a:1' }}] }} }}\n"));
        assert!(error.contains("line 6: patch.wait.for: it has file and tcp at once: each is an item"), "{error}");
        let error = refused(&format!("{MINE}patch:\n  addon-update: {{}}\n  env: {{ name: A, value: b }}\n"));
        assert!(error.contains("patch: it has addon-update and env at once: a fix makes one change"), "{error}");
        let error = refused(&format!("{MINE}summary: again\npatch: {{ addon-update: {{}} }}\n"));
        assert!(error.ends_with("duplicate mapping key: summary"), "{error}");
    }

    #[test]
    fn the_users_own_come_from_a_file_or_a_directory_and_stand_above_the_shipped() {
        let folder = tempfile::tempdir().unwrap();
        let mine = format!("{MINE}patch: {{ addon-update: {{}} }}\n");
        std::fs::write(folder.path().join("a.yaml"), &mine).unwrap();
        std::fs::write(folder.path().join("b.yml"), mine.replace("fix: mine", "fix: wait-for")).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "nothing").unwrap();
        let all = Catalogue::shipped().unwrap().with(folder.path()).unwrap();
        assert_eq!(all.0.len(), SHIPPED.len() + 1);
        assert_eq!(all.find("wait-for").unwrap().daemonset, ObjectKey::new("kube-system", "x"));
        let missing = Catalogue::shipped().unwrap().with(Path::new("/nonexistent.yaml")).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent.yaml"));
    }

    #[test]
    fn a_fix_for_any_daemonset_is_named_with_it() {
        let all = Catalogue::shipped().unwrap();
        let found = all.find("wait-for:kiam/kiam-agent").unwrap();
        assert_eq!(
            (found.name.as_str(), found.daemonset),
            ("wait-for:kiam/kiam-agent", ObjectKey::new("kiam", "kiam-agent"))
        );
        assert_eq!(all.find("addon-update:aws-node").unwrap().addon.as_deref(), Some("vpc-cni"));
        assert!(all.find("wait-for").unwrap_err().to_string().contains("wait-for:kube-system/kiam-agent"));
        assert!(
            all.find("aws-node-wait:kube-proxy").unwrap_err().to_string().contains("it is for kube-system/aws-node")
        );
        assert!(all.find("aws-nod-wait").unwrap_err().to_string().contains("aws-node-wait, "));
    }
}
