//! Names and identifiers, each a type of its own so that one cannot be passed for another.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An immutable string shared by reference count; records repeat the same few thousand strings.
pub type Text = Arc<str>;

/// The first bytes of a text, padded with zeros: in the order of the texts, as far as they reach.
fn head(text: &str) -> [u64; 2] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    let bits = u128::from_be_bytes(bytes);
    [(bits >> 64) as u64, bits as u64]
}

/// What every identifier can do.
macro_rules! behaves {
    ($name:ident) => {
        impl $name {
            /// The identifier as AWS or Kubernetes writes it.
            pub fn as_str(&self) -> &str {
                &self.text
            }

            /// The same, shared.
            pub fn text(&self) -> &Text {
                &self.text
            }
        }
        impl From<$name> for Text {
            fn from(name: $name) -> Self {
                name.text
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::from(Text::from(text))
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::from(Text::from(text))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.text)
            }
        }
    };
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "Text", into = "Text")]
        pub struct $name {
            text: Text,
        }

        behaves!($name);
        impl From<Text> for $name {
            fn from(text: Text) -> Self {
                Self { text }
            }
        }
    };
}

/// An identifier by which maps of thousands are searched all the time: its head tells nearly all of them apart, and
/// lies in the map itself. It costs 16 bytes wherever one is kept.
macro_rules! sought {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "Text", into = "Text")]
        pub struct $name {
            head: [u64; 2],
            text: Text,
        }

        behaves!($name);
        impl From<Text> for $name {
            fn from(text: Text) -> Self {
                Self { head: head(&text), text }
            }
        }
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.head.cmp(&other.head).then_with(|| match Arc::ptr_eq(&self.text, &other.text) {
                    true => Ordering::Equal,
                    false => self.text.cmp(&other.text),
                })
            }
        }
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
    };
}

identifier!(
    /// The name of an Auto Scaling group; unique in an account and region.
    GroupName
);
sought!(
    /// An EC2 instance id, `i-…`.
    InstanceId
);
sought!(
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
    fn identifiers_are_in_the_order_of_their_texts() {
        let texts =
            ["", "a", "ip-10-0-1-1", "ip-10-0-1-1.us-west-2", "ip-10-0-1-1.us-west-3", "ip-10-0-1-10", "\u{e9}"];
        for (i, a) in texts.iter().enumerate() {
            for (j, b) in texts.iter().enumerate() {
                assert_eq!(NodeName::from(*a).cmp(&NodeName::from(*b)), i.cmp(&j), "{a:?} and {b:?}");
                assert_eq!(NodeName::from(*a) == NodeName::from(*b), i == j, "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn the_instance_id_is_the_last_part_of_the_provider_id() {
        assert_eq!(InstanceId::from_provider_id("aws:///us-west-2a/i-0ab"), Some(InstanceId::from("i-0ab")));
        assert_eq!(InstanceId::from_provider_id("aws://cn-north-1/cn-north-1a/i-1"), Some(InstanceId::from("i-1")));
        assert_eq!(InstanceId::from_provider_id("aws:///us-west-2a/fargate-ip-10-0-0-1"), None);
        assert_eq!(InstanceId::from_provider_id("kind://docker/kind/i-0ab"), None);
    }
}
