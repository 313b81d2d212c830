//! The hosts of a region's services: each partition of AWS has DNS names of its own.
//!
//! From the partitions in the SDKs' endpoint rules; a region of no known partition counts as one of the
//! commercial partition, as there.

/// The DNS suffix of the region's partition, and the one of its dual-stack endpoints.
fn suffixes(region: &str) -> (&'static str, &'static str) {
    const KNOWN: [(&str, &str, &str); 7] = [
        ("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
        ("us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
        ("us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
        ("eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
        ("us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
        ("eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
        ("", "amazonaws.com", "api.aws"),
    ];
    KNOWN
        .iter()
        .find(|(prefix, ..)| region.starts_with(prefix))
        .map_or(("amazonaws.com", "api.aws"), |(_, plain, dual)| (plain, dual))
}

/// The regional STS host, the only one EKS accepts in a token.
pub(in crate::cloud) fn sts_host(region: &str) -> String {
    format!("sts.{region}.{}", suffixes(region).0)
}

/// The endpoint of `ec2` or `elasticloadbalancing`, `https://ec2.us-west-2.amazonaws.com`. GovCloud's plain
/// endpoint is its FIPS endpoint.
pub(in crate::cloud) fn endpoint(name: &str, region: &str, fips: bool, dual_stack: bool) -> String {
    let (plain, dual) = suffixes(region);
    let suffix = if dual_stack { dual } else { plain };
    let fips = if fips && (dual_stack || !region.starts_with("us-gov-")) { "-fips" } else { "" };
    format!("https://{name}{fips}.{region}.{suffix}")
}

/// Where IAM is, which each partition has once, and the region its requests are signed for ("AWS Identity and
/// Access Management endpoints and quotas", AWS General Reference).
pub(in crate::cloud) fn iam(region: &str) -> (&'static str, &'static str) {
    const KNOWN: [(&str, &str, &str); 7] = [
        ("cn-", "https://iam.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("us-gov-", "https://iam.us-gov.amazonaws.com", "us-gov-west-1"),
        ("us-iso-", "https://iam.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
        ("us-isob-", "https://iam.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1"),
        ("eu-isoe-", "https://iam.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1"),
        ("us-isof-", "https://iam.us-isof-south-1.csp.hci.ic.gov", "us-isof-south-1"),
        ("eusc-", "https://iam.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
    ];
    let known = KNOWN.iter().find(|(prefix, ..)| region.starts_with(prefix));
    known.map_or(("https://iam.amazonaws.com", "us-east-1"), |(_, endpoint, region)| (endpoint, region))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_its_own_suffix() {
        assert_eq!(sts_host("us-west-2"), "sts.us-west-2.amazonaws.com");
        assert_eq!(sts_host("us-gov-west-1"), "sts.us-gov-west-1.amazonaws.com");
        assert_eq!(sts_host("cn-northwest-1"), "sts.cn-northwest-1.amazonaws.com.cn");
        assert_eq!(sts_host("us-isob-east-1"), "sts.us-isob-east-1.sc2s.sgov.gov");
        assert_eq!(sts_host("eusc-de-east-1"), "sts.eusc-de-east-1.amazonaws.eu");
    }

    #[test]
    fn iam_is_one_for_all_regions_of_a_partition() {
        assert_eq!(iam("eu-west-1"), ("https://iam.amazonaws.com", "us-east-1"));
        assert_eq!(iam("cn-northwest-1"), ("https://iam.cn-north-1.amazonaws.com.cn", "cn-north-1"));
        assert_eq!(iam("us-gov-east-1"), ("https://iam.us-gov.amazonaws.com", "us-gov-west-1"));
    }

    #[test]
    fn ec2_has_fips_and_dual_stack_endpoints() {
        assert_eq!(endpoint("ec2", "eu-west-1", false, false), "https://ec2.eu-west-1.amazonaws.com");
        assert_eq!(endpoint("ec2", "cn-north-1", false, false), "https://ec2.cn-north-1.amazonaws.com.cn");
        assert_eq!(endpoint("ec2", "us-east-1", true, false), "https://ec2-fips.us-east-1.amazonaws.com");
        assert_eq!(endpoint("ec2", "us-gov-west-1", true, false), "https://ec2.us-gov-west-1.amazonaws.com");
        assert_eq!(
            endpoint("elasticloadbalancing", "cn-north-1", false, false),
            "https://elasticloadbalancing.cn-north-1.amazonaws.com.cn"
        );
        assert_eq!(endpoint("ec2", "us-east-1", false, true), "https://ec2.us-east-1.api.aws");
    }
}
