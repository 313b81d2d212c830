//! What AWS tells of the world's instances without a shell on them.

use std::collections::{BTreeMap, BTreeSet};

use crate::cloud::Result;
use crate::cloud::evidence::Evidence;
use crate::model::{InstanceId, Text};

use super::SimCloud;
use super::world::World;

const CONSOLE: &str = "ec2:GetConsoleOutput";
const ENTRIES: &str = "eks:ListAccessEntries";
const INSTANCES: &str = "ec2:DescribeInstances";
const PROFILE: &str = "iam:GetInstanceProfile";
const SUBNETS: &str = "ec2:DescribeSubnets";
const ROLE: &str = "arn:aws:iam::111122223333:role/eks-node";

fn console(world: &World, instance: &InstanceId) -> Option<String> {
    let state = &world.instances[*world.instance_index.get(instance)?];
    let up = world.timestamp().duration_since(state.launched).as_secs();
    if up < 60 {
        return None;
    }
    let host = state.dns.split('.').next().unwrap_or_default();
    let booted = format!(
        "[    0.000000] Linux version 6.1.148\n[    7.412210] cloud-init[1893]: Cloud-init v. 22.2.2 running 'modules:final'\n\
         [   11.930412] {host} nodeadm[2031]: Configuring EKS node\n"
    );
    Some(match state.node {
        Some(_) => {
            booted + &format!("[   13.201177] {host} systemd[1]: Started kubelet.service - Kubernetes Kubelet.\n")
        }
        None => {
            booted
                + &format!(
                    "[   43.511902] {host} kubelet[2102]: E \"Unable to register node with API server\" err=\"Unauthorized\" \
                     node=\"{}\"\n",
                    state.dns
                )
        }
    })
}

impl Evidence for SimCloud {
    async fn console(&self, instance: &InstanceId) -> Result<Option<String>> {
        self.send(CONSOLE, false).await?;
        Ok(self.handle.with(|world| console(world, instance)))
    }

    async fn principals(&self, _cluster: &str) -> Result<BTreeSet<Text>> {
        self.send(ENTRIES, false).await?;
        Ok(self.handle.with(|world| {
            // Who never joins is not let in: the entry of the nodes' role is what is missing.
            let shut = !world.faults.never_joins.is_empty();
            let admin = Text::from("arn:aws:iam::111122223333:role/platform-admin");
            let nodes = (!shut).then(|| Text::from(ROLE));
            nodes.into_iter().chain([admin]).collect()
        }))
    }

    async fn roles(&self, instances: &[InstanceId]) -> Result<BTreeMap<InstanceId, Text>> {
        self.send(INSTANCES, false).await?;
        self.send(PROFILE, false).await?;
        Ok(self.handle.with(|world| {
            let there = instances.iter().filter(|id| world.instance_index.contains_key(*id));
            there.map(|id| (id.clone(), Text::from(ROLE))).collect()
        }))
    }

    async fn free_addresses(&self, subnets: &BTreeSet<Text>) -> Result<BTreeMap<Text, u32>> {
        self.send(SUBNETS, false).await?;
        Ok(subnets.iter().map(|subnet| (subnet.clone(), 4_012)).collect())
    }
}
