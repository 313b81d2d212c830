//! What a group launches: template versions, mixed policies, images.

use fastnode::model::{Instance, LaunchSource, Target};

use crate::making::Setup;
use crate::world::{World, in_service, instance, on};

fn version(instance: &Instance) -> &str {
    match &instance.source {
        LaunchSource::Template { version, .. } => version,
        other => panic!("launched from {other:?}"),
    }
}

/// `$Latest` and `$Default` stay as they are on the group and are resolved to a number by EC2.
async fn resolves(w: &World, named: &str) {
    let target = w.state().await.group.target;
    let Target::Template(template) = &target else { panic!("{target:?}") };
    assert_eq!((&*template.version, &template.resolved), (named, &None), "the group says what the user said");
    let Target::Template(resolved) = w.resolve(&target).await else { panic!("it became something else") };
    assert_eq!(resolved.resolved.as_deref(), Some("2"));
    assert!(resolved.image.is_some_and(|image| image.starts_with("ami-")));
}

/// $Latest: the latest version of the launch template when launching instances.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_LaunchTemplateSpecification.html>
#[test]
fn latest_resolves_to_a_number() {
    on(Setup::new("latest"), async |w| resolves(w, "$Latest").await);
}

/// $Default: the default version of the launch template.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_LaunchTemplateSpecification.html>
#[test]
fn default_resolves_to_a_number() {
    on(Setup { version: "$Default", ..Setup::new("default") }, async |w| resolves(w, "$Default").await);
}

/// An instance's own LaunchTemplate holds the version it was launched from, whatever the group says now.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_Instance.html>
#[test]
fn an_instance_keeps_the_version_it_was_launched_from() {
    on(Setup { outdated: 2, ..Setup::new("versions") }, async |w| {
        let before = w.state().await;
        let mut versions: Vec<&str> = before.instances.iter().map(version).collect();
        versions.sort_unstable();
        assert_eq!(versions, ["1", "1", "2"]);
        let old = before.instances.iter().find(|i| version(i) == "1").expect("an outdated one");
        w.terminate(&old.id).await;
        let after = w.settled().await;
        let new = after.instances.iter().find(|i| instance(&before, &i.id).is_none()).expect("its replacement");
        assert_eq!(version(new), "2", "what is launched is on the group's version");
        assert_eq!(after.instances.iter().filter(|i| version(i) == "1").count(), 1);
    });
}

/// EC2 tells launch time, image, state and name, from before the instance is in service.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html>
#[test]
fn ec2_tells_image_and_launch_time() {
    on(Setup { outdated: 1, ..Setup::new("details") }, async |w| {
        let state = w.state().await;
        let mut images = Vec::new();
        for i in &state.instances {
            let detail = w.detail(&i.id).await.expect("EC2 knows it");
            assert_eq!(&*detail.state, "running");
            assert!(detail.launched_at.is_some());
            assert!(detail.private_dns.is_some_and(|dns| dns.starts_with("ip-") && dns.ends_with(".compute.internal")));
            images.push((version(i).to_owned(), detail.image.expect("it has an image")));
        }
        images.sort();
        assert_ne!(images[0].1, images[1].1, "two versions, two images");
        assert_eq!(images[1].1, images[2].1);
        let target = w.resolve(&state.group.target).await;
        let Target::Template(target) = target else { panic!("{target:?}") };
        assert_eq!(target.image.as_ref(), Some(&images[1].1), "the target's image is that of its version");
    });
}

/// A terminated instance is shutting down, then terminated, and described for a while still.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html>
#[test]
fn ec2_tells_how_an_instance_ends() {
    on(Setup::new("end"), async |w| {
        let victim = in_service(&w.state().await)[0].clone();
        w.decrement(&victim).await;
        assert_eq!(w.detail(&victim).await.map(|d| d.state), Some("shutting-down".into()));
        w.settled().await;
        assert_eq!(w.detail(&victim).await.map(|d| d.state), Some("terminated".into()));
    });
}

/// A mixed-instances policy launches one of its overrides' types, from the policy's template.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-mixed-instances-groups.html>
#[test]
fn a_mixed_policy_launches_one_of_its_types() {
    let types = vec!["m5.large", "m5a.large"];
    on(Setup { types: types.clone(), ..Setup::new("mixed") }, async |w| {
        let before = w.state().await;
        let Target::Mixed { base, overrides } = &before.group.target else { panic!("{:?}", before.group.target) };
        assert_eq!((&*base.version, &base.resolved), ("$Latest", &None));
        let listed: Vec<_> = overrides.iter().map(|o| o.instance_type.as_deref().expect("a type")).collect();
        assert_eq!(listed, types);
        let Target::Mixed { base, .. } = w.resolve(&before.group.target).await else { panic!("it became another") };
        assert_eq!(base.resolved.as_deref(), Some("2"));
        w.desired(4).await;
        let after = w.settled().await;
        let new = after.instances.iter().find(|i| instance(&before, &i.id).is_none()).expect("the new one");
        assert!(types.contains(&&*new.instance_type), "{new:?}");
        assert_eq!(version(new), "2");
    });
}
