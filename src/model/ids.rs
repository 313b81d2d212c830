//! Names and identifiers, each a type of its own so that one cannot be passed for another.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An immutable string shared by reference count; records repeat the same few thousand strings.
pub type Text = Arc<str>;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Text);

        impl $name {
            /// The identifier as AWS or Kubernetes writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

identifier!(
    /// The name of an Auto Scaling group; unique in an account and region.
    GroupName
);
identifier!(
    /// An EC2 instance id, `i-…`.
    InstanceId
);
identifier!(
    /// The name of a Kubernetes Node. Never used to find its instance: that is what `providerID` is for.
    NodeName
);
identifier!(
    /// An availability zone, `us-west-2a`.
    Zone
);
identifier!(
    /// A Kubernetes object's UID: a new object of the same name has another.
    Uid
);

/// Namespace and name of a namespaced Kubernetes object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: Text,
    /// The name.
    pub name: Text,
}

impl ObjectKey {
    /// A key from its two parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: Arc::from(namespace), name: Arc::from(name) }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl InstanceId {
    /// The instance id at the end of a Node's `providerID`, `aws:///us-west-2a/i-0abc` .
    ///
    /// Fargate's (`aws:///us-west-2a/fargate-ip-…`) and other providers' give `None`.
    pub fn from_provider_id(provider_id: &str) -> Option<Self> {
        let rest = provider_id.strip_prefix("aws://")?;
        let last = rest.rsplit('/').next()?;
        last.starts_with("i-").then(|| Self::from(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_id_is_the_last_part_of_the_provider_id() {
        assert_eq!(InstanceId::from_provider_id("aws:///us-west-2a/i-0ab"), Some(InstanceId::from("i-0ab")));
        assert_eq!(InstanceId::from_provider_id("aws://cn-north-1/cn-north-1a/i-1"), Some(InstanceId::from("i-1")));
        assert_eq!(InstanceId::from_provider_id("aws:///us-west-2a/fargate-ip-10-0-0-1"), None);
        assert_eq!(InstanceId::from_provider_id("kind://docker/kind/i-0ab"), None);
    }
}
