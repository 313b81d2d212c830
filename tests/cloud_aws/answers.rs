//! Answers as AWS writes them.

use super::wire::Reply;

pub fn ok(body: impl Into<String>) -> Reply {
    Reply::Http(200, body.into())
}

/// An answer of the query protocol with `inner` as its result.
pub fn result(operation: &str, inner: &str) -> Reply {
    ok(format!(
        "<{operation}Response xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">\
         <{operation}Result>{inner}</{operation}Result>\
         <ResponseMetadata><RequestId>7c6e177f-f082-11e1-ac58-3714bEXAMPLE</RequestId></ResponseMetadata>\
         </{operation}Response>"
    ))
}

/// An answer without a result.
pub fn done(operation: &str) -> Reply {
    ok(format!(
        "<{operation}Response xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">\
         <ResponseMetadata><RequestId>7c6e177f</RequestId></ResponseMetadata></{operation}Response>"
    ))
}

/// An error of the Auto Scaling API.
pub fn error(status: u16, code: &str, message: &str) -> Reply {
    let kind = if status < 500 { "Sender" } else { "Receiver" };
    Reply::Http(
        status,
        format!(
            "<ErrorResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><Error><Type>{kind}</Type>\
             <Code>{code}</Code><Message>{message}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
        ),
    )
}

/// An error of the EC2 API.
pub fn ec2_error(status: u16, code: &str, message: &str) -> Reply {
    Reply::Http(
        status,
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code><Message>{message}\
             </Message></Error></Errors><RequestID>ea966190-f9aa-478e-9ede-example</RequestID></Response>"
        ),
    )
}

/// A page of DescribeAutoScalingGroups.
pub fn groups(members: &[String], next: Option<&str>) -> Reply {
    let next = next.map(|token| format!("<NextToken>{token}</NextToken>")).unwrap_or_default();
    result("DescribeAutoScalingGroups", &format!("<AutoScalingGroups>{}</AutoScalingGroups>{next}", members.concat()))
}

/// A small group with one tag.
pub fn tagged(name: &str, key: &str, value: &str) -> String {
    format!(
        "<member><AutoScalingGroupName>{name}</AutoScalingGroupName><MinSize>0</MinSize><MaxSize>1</MaxSize>\
         <DesiredCapacity>0</DesiredCapacity><Tags><member><ResourceId>{name}</ResourceId>\
         <ResourceType>auto-scaling-group</ResourceType><Key>{key}</Key><Value>{value}</Value>\
         <PropagateAtLaunch>true</PropagateAtLaunch></member></Tags></member>"
    )
}

/// A group with everything in it that is read.
pub const FULL_GROUP: &str = r#"<member>
  <AutoScalingGroupName>workers-a</AutoScalingGroupName>
  <AutoScalingGroupARN>arn:aws:autoscaling:us-west-2:123456789012:autoScalingGroup:1:autoScalingGroupName/workers-a</AutoScalingGroupARN>
  <LaunchTemplate><LaunchTemplateId>lt-0123456789abcdef0</LaunchTemplateId><LaunchTemplateName>workers</LaunchTemplateName><Version>$Latest</Version></LaunchTemplate>
  <MinSize>1</MinSize><MaxSize>9</MaxSize><DesiredCapacity>3</DesiredCapacity><DefaultCooldown>300</DefaultCooldown>
  <AvailabilityZones><member>us-west-2c</member><member>us-west-2a</member></AvailabilityZones>
  <LoadBalancerNames/><TargetGroupARNs><member>arn:aws:elasticloadbalancing:us-west-2:1:targetgroup/x/1</member></TargetGroupARNs>
  <HealthCheckType>EC2</HealthCheckType><HealthCheckGracePeriod>15</HealthCheckGracePeriod>
  <Instances>
    <member><InstanceId>i-0a1</InstanceId><InstanceType>m6i.large</InstanceType><AvailabilityZone>us-west-2a</AvailabilityZone>
      <LifecycleState>InService</LifecycleState><HealthStatus>Healthy</HealthStatus><ProtectedFromScaleIn>true</ProtectedFromScaleIn>
      <LaunchTemplate><LaunchTemplateId>lt-0123456789abcdef0</LaunchTemplateId><LaunchTemplateName>workers</LaunchTemplateName><Version>6</Version></LaunchTemplate></member>
    <member><InstanceId>i-0a2</InstanceId><InstanceType>m5.large</InstanceType><AvailabilityZone>us-west-2c</AvailabilityZone>
      <LifecycleState>Terminating:Wait</LifecycleState><HealthStatus>Unhealthy</HealthStatus><ProtectedFromScaleIn>false</ProtectedFromScaleIn>
      <LaunchConfigurationName>old-lc</LaunchConfigurationName></member>
    <member><InstanceId>i-0a3</InstanceId><InstanceType>m5.large</InstanceType><AvailabilityZone>us-west-2c</AvailabilityZone>
      <LifecycleState>Warmed:Stopped</LifecycleState><HealthStatus>Healthy</HealthStatus><ProtectedFromScaleIn>false</ProtectedFromScaleIn><ImageId>ami-1</ImageId></member>
  </Instances>
  <CreatedTime>2026-01-01T00:00:00.000Z</CreatedTime>
  <SuspendedProcesses><member><ProcessName>AZRebalance</ProcessName><SuspensionReason>User suspended at 2026-11-20T00:00:00Z</SuspensionReason></member></SuspendedProcesses>
  <VPCZoneIdentifier>subnet-1,subnet-2</VPCZoneIdentifier>
  <Tags>
    <member><ResourceId>workers-a</ResourceId><ResourceType>auto-scaling-group</ResourceType><Key>kubernetes.io/cluster/demo</Key><Value>owned</Value><PropagateAtLaunch>true</PropagateAtLaunch></member>
    <member><ResourceId>workers-a</ResourceId><ResourceType>auto-scaling-group</ResourceType><Key>eks:nodegroup-name</Key><Value>workers</Value><PropagateAtLaunch>true</PropagateAtLaunch></member>
  </Tags>
  <TerminationPolicies><member>Default</member></TerminationPolicies>
  <NewInstancesProtectedFromScaleIn>true</NewInstancesProtectedFromScaleIn>
  <WarmPoolConfiguration><MinSize>1</MinSize><PoolState>Stopped</PoolState></WarmPoolConfiguration>
  <Operator><Principal>eks.amazonaws.com</Principal></Operator>
</member>"#;

/// A group with a mixed-instances policy.
pub const MIXED_GROUP: &str = r#"<member>
  <AutoScalingGroupName>mixed</AutoScalingGroupName>
  <MixedInstancesPolicy><LaunchTemplate>
    <LaunchTemplateSpecification><LaunchTemplateId>lt-0aaaaaaaaaaaaaaa0</LaunchTemplateId><LaunchTemplateName>base</LaunchTemplateName></LaunchTemplateSpecification>
    <Overrides>
      <member><InstanceType>m6i.large</InstanceType><WeightedCapacity>2</WeightedCapacity></member>
      <member><InstanceType>m6g.large</InstanceType><WeightedCapacity>2</WeightedCapacity>
        <LaunchTemplateSpecification><LaunchTemplateName>arm</LaunchTemplateName><Version>4</Version></LaunchTemplateSpecification></member>
      <member><InstanceType>m7i.large</InstanceType><WeightedCapacity>2</WeightedCapacity><ImageId>ami-own</ImageId></member>
    </Overrides></LaunchTemplate>
    <InstancesDistribution><OnDemandBaseCapacity>0</OnDemandBaseCapacity></InstancesDistribution></MixedInstancesPolicy>
  <MinSize>0</MinSize><MaxSize>4</MaxSize><DesiredCapacity>0</DesiredCapacity>
  <Tags><member><ResourceId>mixed</ResourceId><ResourceType>auto-scaling-group</ResourceType><Key>kubernetes.io/cluster/demo</Key><Value>shared</Value><PropagateAtLaunch>true</PropagateAtLaunch></member></Tags>
</member>"#;

/// One activity.
pub fn activity(id: &str, status: &str, started: &str, description: &str) -> String {
    format!(
        "<member><ActivityId>{id}</ActivityId><AutoScalingGroupName>workers-a</AutoScalingGroupName>\
         <Description>{description}</Description><Cause>At 2026-11-20T10:00:00Z a user request explicitly set group \
         desired capacity changing the desired capacity from 3 to 4.</Cause><StartTime>{started}</StartTime>\
         <StatusCode>{status}</StatusCode><Progress>50</Progress><Details>{{}}</Details></member>"
    )
}

/// A page of DescribeScalingActivities.
pub fn activities(members: &[String], next: Option<&str>) -> Reply {
    let next = next.map(|token| format!("<NextToken>{token}</NextToken>")).unwrap_or_default();
    result("DescribeScalingActivities", &format!("<Activities>{}</Activities>{next}", members.concat()))
}

/// The answer to TerminateInstanceInAutoScalingGroup.
pub fn terminating(instance: &str) -> Reply {
    let member =
        activity("act-1", "InProgress", "2026-11-20T10:11:13.401Z", &format!("Terminating EC2 instance: {instance}"));
    let activity = member.replace("<member>", "<Activity>").replace("</member>", "</Activity>");
    result("TerminateInstanceInAutoScalingGroup", &activity)
}

/// One version in DescribeLaunchTemplateVersions.
pub fn version(id: &str, number: u32, default: bool, image: &str) -> String {
    format!(
        "<item><launchTemplateId>{id}</launchTemplateId><launchTemplateName>workers</launchTemplateName>\
         <versionNumber>{number}</versionNumber><createTime>2026-10-31T11:52:03.000Z</createTime>\
         <createdBy>arn:aws:iam::123456789012:root</createdBy><defaultVersion>{default}</defaultVersion>\
         <launchTemplateData><blockDeviceMappingSet/><imageId>{image}</imageId><instanceType>m6i.large</instanceType>\
         </launchTemplateData></item>"
    )
}

/// An answer to DescribeLaunchTemplateVersions.
pub fn versions(items: &[String]) -> Reply {
    ok(format!(
        "<DescribeLaunchTemplateVersionsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
         <requestId>1</requestId><launchTemplateVersionSet>{}</launchTemplateVersionSet>\
         </DescribeLaunchTemplateVersionsResponse>",
        items.concat()
    ))
}

/// One instance in DescribeInstances.
pub fn instance(id: &str, state: &str, dns: &str) -> String {
    format!(
        "<item><instanceId>{id}</instanceId><imageId>ami-7</imageId><instanceState><code>16</code><name>{state}</name>\
         </instanceState><privateDnsName>{dns}</privateDnsName><dnsName/><reason/>\
         <launchTime>2026-11-20T09:00:01.000Z</launchTime><tagSet><item><key>name</key><value>x</value></item></tagSet>\
         </item>"
    )
}

/// A page of DescribeInstances, one reservation for each instance.
pub fn instances(items: &[String], next: Option<&str>) -> Reply {
    let reservation = |item: &String| {
        format!(
            "<item><reservationId>r-1</reservationId><ownerId>1</ownerId><groupSet/><instancesSet>{item}</instancesSet>\
             </item>"
        )
    };
    let next = next.map(|token| format!("<nextToken>{token}</nextToken>")).unwrap_or_default();
    ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeInstancesResponse \
         xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>1</requestId><reservationSet>{}</reservationSet>\
         {next}</DescribeInstancesResponse>",
        items.iter().map(reservation).collect::<String>()
    ))
}
