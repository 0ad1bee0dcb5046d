//! The messages in which replicas tell each other about rate limits, in bytes.
//!
//! A version, a kind, the sender, and any number of entries. Most are of 24 bytes: an organisation and a share of its window.
//! Those of refused tenants are of an organisation, a number, and the length and the bytes of a tenant's id. A
//! replica ignores a message of another version or of an unknown form. So replicas of two releases can run side by
//! side; each release then keeps to the limit by itself.

use shared::domain::name::check_name;
use uuid::Uuid;

use crate::limits::limiter::{AccountId, Usage};
use crate::limits::refusals::Refused;

const VERSION: u8 = 1;

const HEADER_LENGTH: usize = 18;
const ID_LENGTH: usize = 16;
const ENTRY_LENGTH: usize = ID_LENGTH + 8;

/// Most entries in a message, which makes it 48 KB.
pub(crate) const MAX_ENTRIES: usize = 2_000;

/// Most refused tenants in a message, which makes it 41 KB at the most.
pub(crate) const MAX_REFUSED: usize = 150;

/// One replica, until it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReplicaId(Uuid);

impl ReplicaId {
    /// A new one.
    pub(crate) fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

/// A message of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The sender.
    pub from: ReplicaId,
    /// The content.
    pub body: Body,
}

/// The content of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// `I am here, and admitted this since I last told you.`
    Admitted(Vec<Usage>),
    /// `I stop, do not count me any more.`
    Leaving,
    /// `You are new; this is how far organisations are ahead.`
    Welcome(ReplicaId, Vec<Usage>),
    /// `Limits of tenants have refused this here since I last told you.`
    Refused(Vec<Refused>),
}

impl Body {
    fn kind(&self) -> u8 {
        match self {
            Self::Admitted(_) => 0,
            Self::Leaving => 1,
            Self::Welcome(..) => 2,
            Self::Refused(_) => 3,
        }
    }
}

impl Message {
    /// The bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, self.body.kind()];
        bytes.extend_from_slice(self.from.0.as_bytes());
        let entries: &[Usage] = match &self.body {
            Body::Admitted(entries) => entries,
            Body::Leaving => &[],
            Body::Welcome(to, entries) => {
                bytes.extend_from_slice(to.0.as_bytes());
                entries
            }
            Body::Refused(refused) => {
                write_refused(&mut bytes, refused);
                &[]
            }
        };
        for Usage { id, nanos } in entries {
            bytes.extend_from_slice(id.as_uuid().as_bytes());
            bytes.extend_from_slice(&nanos.to_be_bytes());
        }
        bytes
    }

    /// Reads a message. None when this version does not know it.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version, kind], rest) = bytes.split_first_chunk()?;
        if version != VERSION || bytes.len() > HEADER_LENGTH + ID_LENGTH + MAX_ENTRIES * ENTRY_LENGTH {
            return None;
        }
        let (from, rest) = split_uuid(rest)?;
        let body = match kind {
            0 => Body::Admitted(entries(rest)?),
            1 if rest.is_empty() => Body::Leaving,
            2 => {
                let (to, rest) = split_uuid(rest)?;
                Body::Welcome(ReplicaId(to), entries(rest)?)
            }
            3 => Body::Refused(read_refused(rest)?),
            _ => return None,
        };
        let from = ReplicaId(from);
        Some(Self { from, body })
    }
}

fn split_uuid(bytes: &[u8]) -> Option<(Uuid, &[u8])> {
    let (uuid, rest) = bytes.split_first_chunk()?;
    Some((Uuid::from_bytes(*uuid), rest))
}

fn entries(bytes: &[u8]) -> Option<Vec<Usage>> {
    if !bytes.len().is_multiple_of(ENTRY_LENGTH) {
        return None;
    }
    let entries = bytes.chunks_exact(ENTRY_LENGTH).map(|entry| {
        let (id, nanos) = split_uuid(entry)?;
        Some(Usage {
            id: AccountId::from(id),
            nanos: u64::from_be_bytes(nanos.try_into().ok()?),
        })
    });
    entries.collect()
}

fn write_refused(bytes: &mut Vec<u8>, refused: &[Refused]) {
    for refused in refused {
        let length = u8::try_from(refused.tenant.len());
        bytes.extend_from_slice(refused.org_id.as_uuid().as_bytes());
        bytes.extend_from_slice(&refused.count.to_be_bytes());
        bytes.push(length.expect("a tenant's id has 255 bytes at the most"));
        bytes.extend_from_slice(refused.tenant.as_bytes());
    }
}

fn read_refused(mut bytes: &[u8]) -> Option<Vec<Refused>> {
    let mut refused = Vec::new();
    while !bytes.is_empty() {
        let (org_id, rest) = split_uuid(bytes)?;
        let (count, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first()?;
        let (tenant, rest) = rest.split_at_checked(usize::from(*length))?;
        let tenant = std::str::from_utf8(tenant).ok()?;
        check_name(tenant).ok()?;
        refused.push(Refused {
            org_id: org_id.into(),
            tenant: tenant.into(),
            count: u32::from_be_bytes(*count),
        });
        bytes = rest;
    }
    Some(refused)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::domain::id::OrgId;

    use super::*;

    fn usage() -> impl Strategy<Value = Vec<Usage>> {
        let entry = (any::<u128>(), any::<u64>()).prop_map(|(id, nanos)| Usage {
            id: Uuid::from_u128(id).into(),
            nanos,
        });
        proptest::collection::vec(entry, 0..50)
    }

    fn refused() -> impl Strategy<Value = Vec<Refused>> {
        let entry =
            (any::<u128>(), "[a-zä/]{1,60}", any::<u32>()).prop_map(|(org_id, tenant, count)| Refused {
                org_id: Uuid::from_u128(org_id).into(),
                tenant: tenant.into(),
                count,
            });
        proptest::collection::vec(entry, 0..20)
    }

    fn body() -> impl Strategy<Value = Body> {
        prop_oneof![
            usage().prop_map(Body::Admitted),
            refused().prop_map(Body::Refused),
            Just(Body::Leaving),
            (any::<u128>(), usage())
                .prop_map(|(to, usage)| Body::Welcome(ReplicaId(Uuid::from_u128(to)), usage)),
        ]
    }

    proptest! {
        #[test]
        fn a_message_comes_back_and_a_cut_one_does_not(body in body(), cut in 1usize..20) {
            let message = Message { from: ReplicaId::generate(), body };
            let bytes = message.encode();
            prop_assert_eq!(Message::decode(&bytes), Some(message));
            // Less than a header and less than an entry: nothing shorter is a message too.
            prop_assert_eq!(Message::decode(&bytes[..bytes.len() - cut.min(17)]), None);
        }

        #[test]
        fn no_bytes_make_the_reader_panic_and_other_versions_are_nothing(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::decode(&bytes);
            if let Some(version) = bytes.first_mut() {
                *version = VERSION + 1;
            }
            prop_assert_eq!(Message::decode(&bytes), None);
        }
    }

    #[test]
    fn a_full_message_is_read_and_a_larger_one_is_not() {
        let message = |count| Message {
            from: ReplicaId::generate(),
            body: Body::Admitted(vec![
                Usage {
                    id: AccountId::from(OrgId::generate()),
                    nanos: 1
                };
                count
            ]),
        };
        assert!(Message::decode(&message(MAX_ENTRIES).encode()).is_some());
        assert!(Message::decode(&message(MAX_ENTRIES + 1).encode()).is_none());
        let refused = Refused {
            org_id: OrgId::generate(),
            tenant: "x".repeat(255).into(),
            count: u32::MAX,
        };
        let message = Message {
            from: ReplicaId::generate(),
            body: Body::Refused(vec![refused; MAX_REFUSED]),
        };
        assert_eq!(Message::decode(&message.encode()), Some(message));
    }
}
