//! What an API key may do.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// One thing that a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// Send events.
    Ingest,
    /// Read and change endpoints and keys.
    Manage,
}

impl Scope {
    const ALL: [Self; 2] = [Self::Ingest, Self::Manage];

    /// The name in the API and in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Manage => "manage",
        }
    }

    fn name(self, of_tenant: bool) -> String {
        let prefix = if of_tenant { "tenant:" } else { "" };
        format!("{prefix}{}", self.as_str())
    }

    fn bit(self) -> u8 {
        match self {
            Self::Ingest => 1,
            Self::Manage => 2,
        }
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scopes(u8);

impl Scopes {
    /// Every scope.
    pub(crate) fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Whether `scope` is in it.
    pub(crate) fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// A scope that `other` has and this has not.
    pub(crate) fn lacking(self, other: Self) -> Option<Scope> {
        other.iter().find(|scope| !self.contains(*scope))
    }

    /// Whether there is none in it.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// Reads the names in the database. A name that only a later release knows grants nothing here.
    pub(crate) fn from_names(names: &[String], of_tenant: bool) -> Self {
        let known = |scope: &Scope| names.contains(&scope.name(of_tenant));
        Scope::ALL.into_iter().filter(known).collect()
    }

    /// The names for the database. Those of a key that is bound to a tenant grant nothing to an earlier release, which would
    /// take them for the whole organisation.
    pub(crate) fn to_names(self, of_tenant: bool) -> Vec<String> {
        self.iter().map(|scope| scope.name(of_tenant)).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Scope>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_keeps_what_it_was_made_of_and_says_what_it_lacks() {
        let (ingest, manage) = ([Scope::Ingest], [Scope::Manage]);
        let (ingest, manage): (Scopes, Scopes) = (ingest.into_iter().collect(), manage.into_iter().collect());
        for of_tenant in [true, false] {
            let names = Scopes::all().to_names(of_tenant);
            assert_eq!(Scopes::from_names(&names, of_tenant), Scopes::all());
            assert!(Scopes::from_names(&names, !of_tenant).is_empty());
        }
        assert_eq!(
            Scopes::from_names(&["manage".into(), "fly".into()], false),
            manage
        );
        assert_eq!(ingest.lacking(Scopes::all()), Some(Scope::Manage));
        assert_eq!(Scopes::all().lacking(manage), None);
        assert!(Scopes::default().is_empty() && !manage.contains(Scope::Ingest));
        assert_eq!(
            serde_json::to_string(&Scopes::all()).unwrap(),
            r#"["ingest","manage"]"#
        );
        assert!(serde_json::from_str::<Scopes>(r#"["fly"]"#).is_err());
    }
}
