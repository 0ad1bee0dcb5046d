//! Who asks for a change.

use std::net::IpAddr;

use crate::domain::access::key::KeyId;
use crate::domain::access::session::SessionId;

/// Who asks for a change, as the audit log names them.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    who: Who,
    address: Option<IpAddr>,
}

#[derive(Clone, Debug)]
enum Who {
    Key(KeyId),
    Portal(SessionId),
    Admin(String),
    SignUp,
}

impl Actor {
    /// The owner of a key.
    pub(crate) fn key(id: KeyId, address: Option<IpAddr>) -> Self {
        Self {
            who: Who::Key(id),
            address,
        }
    }

    /// Someone of a tenant, by the session of its portal.
    pub(crate) fn portal(id: SessionId, address: Option<IpAddr>) -> Self {
        Self {
            who: Who::Portal(id),
            address,
        }
    }

    /// An operator, by the name of the admin token.
    pub(crate) fn admin(name: &str, address: Option<IpAddr>) -> Self {
        Self {
            who: Who::Admin(name.to_owned()),
            address,
        }
    }

    /// Somebody who makes an organisation.
    pub(crate) fn sign_up(address: Option<IpAddr>) -> Self {
        Self {
            who: Who::SignUp,
            address,
        }
    }

    /// The calling key; None when it is not a key that calls.
    pub(crate) fn key_id(&self) -> Option<&KeyId> {
        match &self.who {
            Who::Key(id) => Some(id),
            Who::Portal(_) | Who::Admin(_) | Who::SignUp => None,
        }
    }

    /// Its name in the audit log.
    pub(crate) fn name(&self) -> String {
        match &self.who {
            Who::Key(id) => format!("key:{id}"),
            Who::Portal(id) => format!("portal:{id}"),
            Who::Admin(name) => format!("admin:{name}"),
            Who::SignUp => "signup".to_owned(),
        }
    }

    /// Where the request came from; empty when that is not known.
    pub(crate) fn address(&self) -> String {
        self.address
            .map(|address| address.to_string())
            .unwrap_or_default()
    }
}
