//! The rotation's record in its ConfigMap, written by one hand at a time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::sleep;

use super::{FENCED_DEADLINE, Fault, retry};
use crate::cluster::{Cluster, ConfigRecord, ErrorKind};
use crate::model::InstanceId;
use crate::observe::RotationRecord;

/// The key of the ConfigMap under which the record stands, as JSON.
pub const RECORD: &str = "record";

/// Tries of a write before the last, with a pause after each that doubles up to the longest: about a minute of a server
/// that sheds load or loses answers.
const TRIES: u32 = 14;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The record as it stands in the cluster; a clone is the same record.
pub struct Record<K> {
    cluster: Rc<K>,
    namespace: Rc<str>,
    now: Rc<RefCell<RotationRecord>>,
    written: Rc<Mutex<ConfigRecord>>,
}

impl<K> Clone for Record<K> {
    fn clone(&self) -> Self {
        Self {
            cluster: self.cluster.clone(),
            namespace: self.namespace.clone(),
            now: self.now.clone(),
            written: self.written.clone(),
        }
    }
}

impl<K> Record<K> {
    /// The record as last written.
    pub fn current(&self) -> RotationRecord {
        self.now.borrow().clone()
    }

    /// Whether the former protection of one of these instances is not recorded yet.
    pub fn lacks_protection(&self, ids: &[InstanceId]) -> bool {
        let now = self.now.borrow();
        ids.iter().any(|id| !now.protection.contains_key(id))
    }
}

impl<K: Cluster> Record<K> {
    /// Writes a record for the first time, or anew on resume: `config` holds everything but the record itself.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn begin(
        cluster: Rc<K>,
        namespace: &str,
        record: RotationRecord,
        mut config: ConfigRecord,
    ) -> Result<Self, Fault> {
        config.data.insert(RECORD.to_owned(), to_json(&record));
        let config = put(&*cluster, namespace, &record.id, config).await?;
        Ok(Self {
            cluster,
            namespace: namespace.into(),
            now: Rc::new(RefCell::new(record)),
            written: Rc::new(Mutex::new(config)),
        })
    }

    /// Changes the record and writes it; nothing changes here if it cannot be written.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn update(&self, change: impl Fn(&mut RotationRecord)) -> Result<(), Fault> {
        self.write(|record, config| {
            change(record);
            config.data.insert(RECORD.to_owned(), to_json(record));
        })
        .await
    }

    /// Changes the ConfigMap's data: for its end, when the record gives way to the summary.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn close(&self, change: impl Fn(&mut ConfigRecord)) -> Result<(), Fault> {
        self.write(|_, config| change(config)).await
    }

    async fn write(&self, change: impl Fn(&mut RotationRecord, &mut ConfigRecord)) -> Result<(), Fault> {
        let mut written = self.written.lock().await;
        let mut record = self.current();
        let mut config = written.clone();
        change(&mut record, &mut config);
        *written = put(&*self.cluster, &self.namespace, &record.id, config).await?;
        *self.now.borrow_mut() = record;
        Ok(())
    }
}

/// Writes the ConfigMap, a few times if need be. It is ours alone by the lock: a conflict is our own write whose
/// reply was lost, which is read again and found to have landed, or a person's edit, and is written over.
async fn put<K: Cluster>(
    cluster: &K,
    namespace: &str,
    rotation: &str,
    mut config: ConfigRecord,
) -> Result<ConfigRecord, Fault> {
    let mut pause = FIRST_PAUSE;
    for _ in 0..TRIES {
        match retry::within(FENCED_DEADLINE, cluster.put_config(namespace, rotation, &config)).await {
            Err(Fault::Cluster(e)) if e.kind == ErrorKind::Conflict => {
                match retry::within(FENCED_DEADLINE, cluster.configs(namespace)).await {
                    Ok(all) => match all.into_iter().find(|c| c.name == config.name) {
                        Some(there) if there.data == config.data => return Ok(there),
                        there => config.version = there.and_then(|c| c.version),
                    },
                    // The next try meets the same conflict, and asks again.
                    Err(fault) if retry::may_send_again(&fault) => {}
                    Err(fault) => return Err(fault),
                }
            }
            // It was read, and is gone since: somebody has deleted it.
            Err(Fault::Cluster(e)) if e.kind == ErrorKind::NotFound && config.version.is_some() => {
                config.version = None
            }
            Err(fault) if retry::may_send_again(&fault) => {}
            done => return done,
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    let last = retry::within(FENCED_DEADLINE, cluster.put_config(namespace, rotation, &config)).await;
    last.map_err(|fault| match fault {
        Fault::Cluster(mut e) if e.kind == ErrorKind::Conflict => {
            let name = &config.name;
            e.message = format!(
                "ConfigMap {namespace}/{name}, the rotation's record, was changed by somebody else each time it was to be \
                 written: {}",
                e.message
            );
            Fault::Cluster(e)
        }
        fault => fault,
    })
}

fn to_json(record: &RotationRecord) -> String {
    // A record of strings, numbers and maps keyed by strings always serialises.
    serde_json::to_string(record).unwrap_or_default()
}
