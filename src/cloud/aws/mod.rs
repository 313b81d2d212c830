//! AWS itself behind the [`Cloud`] port.
//!
//! Auto Scaling and EKS through their SDKs, EC2 and Elastic Load Balancing through `super::query`. The credentials, region and endpoint
//! come from where every AWS tool takes them. Each request is counted, has time-outs, and is sent again
//! only where that is safe; `call` holds those rules and `failure` the judgement they rest on.

/// Sends `$request`, watched by the probe.
macro_rules! send {
    ($request:expr) => {
        async |probe: Probe| -> std::result::Result<_, Failure> {
            $request.clone().customize().interceptor(probe.clone()).send().await.map_err(|error| probe.judge(&error))
        }
    };
}

mod addons;
pub(in crate::cloud) mod call;
pub(in crate::cloud) mod credentials;
mod evidence;
pub(in crate::cloud) mod failure;
mod map;
pub(in crate::cloud) mod partition;
mod resolve;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_autoscaling::types;
use aws_smithy_runtime::client::defaults::default_http_client_plugin_v2;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::RuntimePlugin;
use aws_types::service_config::ServiceConfigKey;
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use self::call::{Caller, Probe};
use self::failure::Failure;
use super::ec2::Ec2;
use super::elb::Elb;
use super::iam::Iam;
use super::query::Service;
use super::signing::SigningTime;
use super::token::TokenSource;
use super::{Cloud, EksCluster, Error, ErrorKind, GroupState, InstanceDetail, Result};
use crate::clock::Clock;
use crate::model::{Activity, ActivityStatus, Attachment, GroupName, InstanceId, Process, Target, Text};

/// The most groups a page of DescribeAutoScalingGroups holds, and activities one of
/// DescribeScalingActivities.
const PAGE: i32 = 100;
/// The most instances one SetInstanceProtection takes.
const PROTECT_AT_ONCE: usize = 50;
/// DescribeInstanceRefreshes is asked a group at a time; so many at once.
const REFRESHES_AT_ONCE: usize = 4;

/// Where AWS is, and who asks.
#[derive(Clone, Debug)]
pub struct AwsOptions {
    /// `--region`; else `AWS_REGION`, the profile's, or the instance's own.
    pub region: Option<String>,
    /// `--profile`; else `AWS_PROFILE`, or `default`.
    pub profile: Option<String>,
    /// An endpoint for all services; else `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_<SERVICE>`, or the profile's.
    pub endpoint: Option<String>,
    /// The time requests and tokens are signed with.
    pub clock: Clock,
}

impl AwsOptions {
    /// Everything from the environment.
    pub fn new(clock: Clock) -> Self {
        Self { region: None, profile: None, endpoint: None, clock }
    }
}

/// AWS in one region.
#[derive(Debug)]
pub struct AwsCloud {
    autoscaling: aws_sdk_autoscaling::Client,
    eks: aws_sdk_eks::Client,
    ec2: Ec2,
    elb: Elb,
    iam: Iam,
    caller: Caller,
    provider: SharedCredentialsProvider,
    region: Text,
    time: SigningTime,
}

impl AwsCloud {
    /// Reads the configuration, and asks AWS only where the region comes from the instance's metadata or a
    /// profile is named in the options.
    ///
    /// A profile that is named there is the only source of credentials, as with the AWS CLI: keys left in
    /// the environment must not turn `--profile staging` into another account.
    ///
    /// # Errors
    /// [`ErrorKind::Credentials`] when there is no region, or the named profile gives no credentials.
    pub async fn connect(options: AwsOptions) -> Result<Self> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        let mut providers = ProviderConfig::with_default_region().await;
        if let Some(http) = http_client() {
            providers = providers.with_http_client(http.clone());
            loader = loader.http_client(http);
        }
        if let Some(region) = options.region.map(Region::new) {
            providers = providers.with_region(Some(region.clone()));
            loader = loader.region(region);
        }
        if let Some(profile) = options.profile {
            let provider =
                ProfileFileCredentialsProvider::builder().configure(&providers).profile_name(&profile).build();
            let provider = SharedCredentialsProvider::new(provider);
            credentials::load(&provider).await.map_err(|error| unusable(&profile, &error))?;
            loader = loader.profile_name(profile).credentials_provider(provider);
        }
        if let Some(endpoint) = options.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        Self::from_config(&loader.load().await, options.clock)
    }

    /// From a loaded configuration. Its retries and time-outs are replaced by fastnode's own.
    ///
    /// # Errors
    /// [`ErrorKind::Credentials`] when it has no region or no credentials provider.
    pub fn from_config(config: &SdkConfig, clock: Clock) -> Result<Self> {
        let missing =
            |message: &str| Error { kind: ErrorKind::Credentials, operation: "AWS".into(), message: message.into() };
        let region = config.region().ok_or_else(|| {
            missing("no AWS region is set: name it with --region, or set AWS_REGION, for example us-west-2")
        })?;
        let provider = config
            .credentials_provider()
            .ok_or_else(|| missing("no AWS credentials provider is set: set AWS_PROFILE or AWS_ACCESS_KEY_ID"))?;
        let region: Text = region.as_ref().into();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(Duration::from_secs(30))
            .operation_attempt_timeout(Duration::from_secs(35))
            .operation_timeout(Duration::from_secs(40))
            .build();
        let http = config.http_client().or_else(http_client);
        let time = SigningTime::from(clock);
        let at = |name, id, endpoint: &dyn Fn() -> String, region: &str| {
            let endpoint = named_endpoint(config, id).unwrap_or_else(endpoint);
            let held = credentials::Held::new(provider.clone());
            Service::new(name, &endpoint, region, held, time.clone(), http.clone(), timeouts.clone())
        };
        let service = |name, id| {
            let (fips, dual) = (config.use_fips(), config.use_dual_stack());
            let endpoint = || partition::endpoint(name, &region, fips.unwrap_or(false), dual.unwrap_or(false));
            at(name, id, &endpoint, &region)
        };
        let (iam_endpoint, iam_region) = partition::iam(&region);
        let iam = Iam(at("iam", "IAM", &|| iam_endpoint.to_owned(), iam_region));
        let (ec2, elb) =
            (Ec2(service("ec2", "EC2")), Elb(service("elasticloadbalancing", "Elastic Load Balancing v2")));
        let mut config = config
            .to_builder()
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .time_source(time.clone())
            .disable_clock_skew_correction(true);
        config.set_http_client(http);
        let config = config.build();
        // The jitter has to differ between the members of a fleet that start together and are throttled
        // together, which the nanoseconds of their start do.
        let seed = clock.now().as_nanosecond().unsigned_abs() as u64;
        Ok(Self {
            autoscaling: aws_sdk_autoscaling::Client::new(&config),
            eks: aws_sdk_eks::Client::new(&config),
            ec2,
            elb,
            iam,
            caller: Caller::new(seed, time.clone()),
            provider,
            region,
            time,
        })
    }

    /// The region.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Makes tokens for the API server of `cluster`.
    pub fn token_source(&self, cluster: &str) -> TokenSource {
        TokenSource::new(self.provider.clone(), &self.region, cluster, self.time.clone())
    }
}

/// The error for a named profile without usable credentials.
fn unusable(profile: &str, error: &CredentialsError) -> Error {
    let error = Failure::credentials("AWS", error).into_error();
    Error { message: format!("profile {profile:?}: {}", error.message), ..error }
}

/// One HTTPS client for all services: trust roots are loaded and connections pooled once.
fn http_client() -> Option<SharedHttpClient> {
    let plugin = default_http_client_plugin_v2(BehaviorVersion::latest())?;
    plugin.runtime_components(&RuntimeComponentsBuilder::new("http")).http_client()
}

/// The endpoint a service is overridden with, in the SDKs' own order: given by hand, `AWS_ENDPOINT_URL_EC2` and
/// the like and the profile's, `AWS_ENDPOINT_URL`.
fn named_endpoint(config: &SdkConfig, id: &'static str) -> Option<String> {
    let general = || config.endpoint_url().map(str::to_owned);
    if config.get_origin("endpoint_url").is_client_config() {
        return general();
    }
    let key = ServiceConfigKey::builder().service_id(id).env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let own = key.ok().and_then(|key| config.service_config()?.load_config(key));
    own.or_else(general)
}

fn capacity(size: u32) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}

/// A continuation token, where there is a further page.
fn further(token: Option<&str>) -> Option<String> {
    token.filter(|token| !token.is_empty()).map(str::to_owned)
}

impl Cloud for AwsCloud {
    async fn cluster(&self, name: &str) -> Result<EksCluster> {
        const OPERATION: &str = "eks:DescribeCluster";
        let request = self.eks.describe_cluster().name(name);
        let answer = self.caller.repeatable(OPERATION, send!(request)).await.map_err(|error| match error.kind {
            ErrorKind::NotFound => Error { message: format!("{} (region {})", error.message, self.region), ..error },
            _ => error,
        })?;
        let cluster = answer.cluster();
        let status = cluster.and_then(|c| c.status()).map_or("UNKNOWN", |status| status.as_str());
        let endpoint = cluster.and_then(|c| c.endpoint());
        let ca = cluster.and_then(|c| c.certificate_authority()).and_then(|ca| ca.data());
        let (Some(endpoint), Some(ca)) = (endpoint, ca) else {
            return Err(Error {
                kind: ErrorKind::Other,
                operation: OPERATION.into(),
                message: format!("cluster {name:?} is {status} and has no API server endpoint or CA yet"),
            });
        };
        Ok(EksCluster {
            name: name.into(),
            version: cluster.and_then(|c| c.version()).unwrap_or_default().into(),
            endpoint: endpoint.into(),
            ca: ca.into(),
            status: status.into(),
        })
    }

    async fn groups(&self, cluster: &str) -> Result<Vec<GroupState>> {
        let tagged = types::Filter::builder().name("tag-key").set_values(Some(map::cluster_tag_keys(cluster))).build();
        let mut request = self.autoscaling.describe_auto_scaling_groups().max_records(PAGE).filters(tagged);
        let mut groups = Vec::new();
        loop {
            let page = self.caller.repeatable("autoscaling:DescribeAutoScalingGroups", send!(request)).await?;
            let found = page.auto_scaling_groups().iter().filter_map(map::group);
            groups.extend(found.filter(|state| map::belongs(&state.group.tags, cluster)));
            let Some(next) = further(page.next_token()) else { break };
            request = request.next_token(next);
        }
        groups.sort_by(|a, b| a.group.name.cmp(&b.group.name));
        Ok(groups)
    }

    async fn refreshing(&self, groups: &[GroupName]) -> Result<BTreeSet<GroupName>> {
        stream::iter(groups)
            .map(|group| async move {
                let request = self
                    .autoscaling
                    .describe_instance_refreshes()
                    .auto_scaling_group_name(group.as_str())
                    .max_records(5);
                let page = self.caller.repeatable("autoscaling:DescribeInstanceRefreshes", send!(request)).await?;
                let running = page.instance_refreshes().iter().any(|refresh| map::is_running(refresh.status()));
                Ok(running.then(|| group.clone()))
            })
            .buffered(REFRESHES_AT_ONCE)
            .try_filter_map(async |group| Ok(group))
            .try_collect()
            .await
    }

    async fn deregistration_delays(&self, attachments: &BTreeSet<Attachment>) -> Result<BTreeMap<Attachment, u32>> {
        self.elb.delays(&self.caller, attachments).await
    }

    async fn resolve(&self, target: &Target) -> Result<Target> {
        resolve::resolve(&self.ec2, &self.caller, target).await
    }

    async fn instances(&self, ids: &[InstanceId]) -> Result<Vec<InstanceDetail>> {
        self.ec2.instances(&self.caller, ids).await
    }

    async fn activities(&self, group: &GroupName, since: Timestamp) -> Result<Vec<Activity>> {
        let mut request = self
            .autoscaling
            .describe_scaling_activities()
            .auto_scaling_group_name(group.as_str())
            .include_deleted_groups(false)
            .max_records(PAGE);
        let mut activities: Vec<Activity> = Vec::new();
        loop {
            let page = self.caller.repeatable("autoscaling:DescribeScalingActivities", send!(request)).await?;
            let found: Vec<Activity> = page.activities().iter().filter_map(map::activity).collect();
            // Those in progress come first whenever they began; the ended ones follow, newest first.
            let past = found.iter().any(|a| a.status != ActivityStatus::InProgress && a.started < since);
            activities.extend(found.into_iter().filter(|a| a.started >= since));
            match further(page.next_token()) {
                Some(next) if !past => request = request.next_token(next),
                _ => break,
            }
        }
        activities.sort_by_key(|activity| std::cmp::Reverse(activity.started));
        Ok(activities)
    }

    async fn set_desired(&self, group: &GroupName, desired: u32) -> Result<()> {
        let request = self
            .autoscaling
            .set_desired_capacity()
            .auto_scaling_group_name(group.as_str())
            .desired_capacity(capacity(desired))
            .honor_cooldown(false);
        self.caller.once("autoscaling:SetDesiredCapacity", send!(request)).await.map(drop)
    }

    async fn terminate(&self, instance: &InstanceId, decrement: bool) -> Result<Activity> {
        const OPERATION: &str = "autoscaling:TerminateInstanceInAutoScalingGroup";
        let request = self
            .autoscaling
            .terminate_instance_in_auto_scaling_group()
            .instance_id(instance.as_str())
            .should_decrement_desired_capacity(decrement);
        let answer = self.caller.once(OPERATION, send!(request)).await?;
        let activity = answer.activity().and_then(map::activity).ok_or_else(|| Error {
            kind: ErrorKind::UnknownOutcome,
            operation: OPERATION.into(),
            message: "the answer names no activity".into(),
        })?;
        Ok(Activity { instance: activity.instance.clone().or_else(|| Some(instance.clone())), ..activity })
    }

    async fn suspend(&self, group: &GroupName, processes: &BTreeSet<Process>) -> Result<()> {
        // Without a name the call would suspend every process.
        if processes.is_empty() {
            return Ok(());
        }
        let names = processes.iter().map(|process| process.0.to_string()).collect();
        let request = self
            .autoscaling
            .suspend_processes()
            .auto_scaling_group_name(group.as_str())
            .set_scaling_processes(Some(names));
        self.caller.repeatable("autoscaling:SuspendProcesses", send!(request)).await.map(drop)
    }

    async fn resume(&self, group: &GroupName, processes: &BTreeSet<Process>) -> Result<()> {
        // Without a name the call would resume every process, those suspended by others included.
        if processes.is_empty() {
            return Ok(());
        }
        let names = processes.iter().map(|process| process.0.to_string()).collect();
        let request = self
            .autoscaling
            .resume_processes()
            .auto_scaling_group_name(group.as_str())
            .set_scaling_processes(Some(names));
        self.caller.repeatable("autoscaling:ResumeProcesses", send!(request)).await.map(drop)
    }

    async fn protect(&self, group: &GroupName, instances: &[InstanceId], protected: bool) -> Result<()> {
        for instances in instances.chunks(PROTECT_AT_ONCE) {
            let ids = instances.iter().map(|id| id.as_str().to_owned()).collect();
            let request = self
                .autoscaling
                .set_instance_protection()
                .auto_scaling_group_name(group.as_str())
                .set_instance_ids(Some(ids))
                .protected_from_scale_in(protected);
            self.caller.repeatable("autoscaling:SetInstanceProtection", send!(request)).await?;
        }
        Ok(())
    }

    async fn set_max(&self, group: &GroupName, max: u32) -> Result<()> {
        let request = self
            .autoscaling
            .update_auto_scaling_group()
            .auto_scaling_group_name(group.as_str())
            .max_size(capacity(max));
        self.caller.repeatable("autoscaling:UpdateAutoScalingGroup", send!(request)).await.map(drop)
    }

    async fn tag(&self, group: &GroupName, tags: &BTreeMap<Text, Text>) -> Result<()> {
        if tags.is_empty() {
            return Ok(());
        }
        let tags =
            tags.iter().map(|(key, value)| map::tag(group, key).value(&**value).propagate_at_launch(false).build());
        let request = self.autoscaling.create_or_update_tags().set_tags(Some(tags.collect()));
        self.caller.repeatable("autoscaling:CreateOrUpdateTags", send!(request)).await.map(drop)
    }

    async fn untag(&self, group: &GroupName, keys: &BTreeSet<Text>) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let tags = keys.iter().map(|key| map::tag(group, key).build());
        let request = self.autoscaling.delete_tags().set_tags(Some(tags.collect()));
        self.caller.repeatable("autoscaling:DeleteTags", send!(request)).await.map(drop)
    }

    fn calls(&self) -> BTreeMap<Text, u64> {
        self.caller.counts()
    }
}
