//! Which part of an organisation a key is for.

use shared::domain::id::OrgId;
use shared::domain::name::Tenant;

/// All of an organisation, or one of its tenants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Realm {
    /// The organisation.
    pub org_id: OrgId,
    /// Its tenant. None: all of the organisation.
    pub tenant: Option<Tenant>,
}

/// A request names another tenant than that of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OtherTenant;

impl OtherTenant {
    /// What is wrong with the field that names the tenant.
    pub(crate) const DETAIL: &str = "is not the tenant of the API key";
}

impl Realm {
    /// All of an organisation.
    pub(crate) fn of_organization(org_id: OrgId) -> Self {
        Self { org_id, tenant: None }
    }

    /// Its tenant's id.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.tenant.as_ref().map(Tenant::as_str)
    }

    /// The tenant that something new belongs to: the one that the request names, or that of the realm.
    ///
    /// # Errors
    /// When the request names another one than that of the realm.
    pub(crate) fn owner<'a>(&'a self, named: Option<&'a str>) -> Result<Option<&'a str>, OtherTenant> {
        match (self.tenant(), named) {
            (Some(own), Some(named)) if own != named => Err(OtherTenant),
            (own, named) => Ok(own.or(named)),
        }
    }

    /// The part of the realm that a list is narrowed to.
    ///
    /// # Errors
    /// When the request names another tenant than that of the realm.
    pub(crate) fn narrowed(&self, named: Option<Tenant>) -> Result<Self, OtherTenant> {
        self.owner(named.as_ref().map(Tenant::as_str))?;
        Ok(Self {
            org_id: self.org_id,
            tenant: named.or_else(|| self.tenant.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_realm_is_that_tenants_and_an_organisations_is_anyones() {
        let all = Realm::of_organization(OrgId::generate());
        let of_tenant = Realm {
            tenant: Some("a".parse().unwrap()),
            ..all.clone()
        };
        assert_eq!(all.owner(None), Ok(None));
        assert_eq!(all.owner(Some("b")), Ok(Some("b")));
        assert_eq!(of_tenant.owner(None), Ok(Some("a")));
        assert_eq!(of_tenant.owner(Some("a")), Ok(Some("a")));
        assert_eq!(of_tenant.owner(Some("b")), Err(OtherTenant));
        assert_eq!(all.narrowed(of_tenant.tenant.clone()), Ok(of_tenant.clone()));
        assert_eq!(of_tenant.narrowed(None), Ok(of_tenant.clone()));
        assert_eq!(of_tenant.narrowed(Some("b".parse().unwrap())), Err(OtherTenant));
    }
}
