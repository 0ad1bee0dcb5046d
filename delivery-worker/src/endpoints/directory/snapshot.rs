//! The endpoints as of one version. Maps share what is not changed from one to the next.

use std::hash::Hash;
use std::sync::Arc;

use rpds::HashTrieMapSync;
use shared::domain::event::Event;
use shared::domain::id::{EndpointId, OrgId};
use shared::domain::name::Tenant;

use crate::endpoints::endpoint::{Endpoint, EventsOf};
use crate::endpoints::lazy::LazyEndpoint;
use crate::endpoints::subscribers::{Subscriber, Subscribers, Taker};
use crate::slices::Slices;

/// All enabled endpoints as of one version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// The database's count of changes up to which this was read.
    pub version: i64,
    /// The most that the filters of one event may take.
    pub(super) filter_steps: u32,
    pub(super) by_id: HashTrieMapSync<EndpointId, Arc<LazyEndpoint>>,
    pub(super) by_organization: HashTrieMapSync<OrgId, Organization>,
}

/// The endpoints of an organisation, by whose events they get.
#[derive(Clone, Debug, Default)]
pub(super) struct Organization {
    /// Those of no tenant.
    own: Arc<Subscribers>,
    /// Those of one tenant.
    by_tenant: HashTrieMapSync<Tenant, Arc<Subscribers>>,
    /// All of them.
    of_all: Arc<Subscribers>,
}

impl Organization {
    /// Changes the endpoints that get these events.
    fn change(&mut self, events: &EventsOf, change: impl FnOnce(&mut Subscribers)) {
        match events {
            EventsOf::NoTenant => change(Arc::make_mut(&mut self.own)),
            EventsOf::AllTenants => change(Arc::make_mut(&mut self.of_all)),
            EventsOf::Tenant(tenant) => {
                let subscribers = entry(&mut self.by_tenant, tenant);
                change(Arc::make_mut(subscribers));
                if subscribers.len() == 0 {
                    self.by_tenant.remove_mut(tenant);
                }
            }
        }
    }
}

impl Snapshot {
    /// Without endpoints, and older than any that was read.
    pub(super) fn empty(filter_steps: u32) -> Self {
        Self {
            version: -1,
            filter_steps,
            ..Self::default()
        }
    }

    /// Whether it came from the database.
    pub(crate) fn is_read(&self) -> bool {
        self.version >= 0
    }

    /// The endpoints that an event may go to: those of all tenants, and those of its tenant, or of no tenant.
    pub(crate) fn of(&self, event: &Event<'_>) -> impl Iterator<Item = &Subscribers> {
        let organization = self.by_organization.get(&event.org_id);
        let those = organization.and_then(|organization| match event.tenant {
            Some(tenant) => organization.by_tenant.get(tenant),
            None => Some(&organization.own),
        });
        let of_all = organization.map(|organization| &organization.of_all);
        let both = of_all.into_iter().chain(those).map(|subscribers| &**subscribers);
        both.filter(|subscribers| subscribers.len() > 0)
    }

    /// Whether an event is of a tenant that has no endpoint of its own.
    pub(crate) fn has_no_endpoint_of_tenant(&self, event: &Event<'_>) -> bool {
        event.tenant.is_some_and(|tenant| {
            let organization = self.by_organization.get(&event.org_id);
            organization.is_none_or(|organization| !organization.by_tenant.contains_key(tenant))
        })
    }

    /// The endpoints that an event goes to: see [`Subscribers::takers`]. Filters of endpoints of all tenants come first: those
    /// of a tenant take no steps of theirs.
    pub(crate) async fn takers(&self, event: &Event<'_>, slices: &mut Slices) -> Vec<Taker<'_>> {
        let (mut takers, mut steps) = (Vec::new(), self.filter_steps);
        for subscribers in self.of(event) {
            takers.append(&mut subscribers.takers(event, &mut steps, slices).await);
        }
        takers
    }

    /// An endpoint that deliveries are sent to, when it is enabled and can be used.
    pub(crate) fn get(&self, id: EndpointId) -> Option<&Arc<Endpoint>> {
        self.by_id.get(&id)?.get()
    }

    /// An endpoint that was in use.
    pub(super) fn opened(&self, id: EndpointId) -> Option<&Endpoint> {
        self.by_id.get(&id)?.opened().map(|endpoint| &**endpoint)
    }

    /// Puts an endpoint in the place of what is known of it: `None` takes it out.
    pub(super) fn replace(
        &mut self,
        id: EndpointId,
        org_id: OrgId,
        events: &EventsOf,
        subscriber: Option<Subscriber>,
    ) {
        match subscriber
            .as_ref()
            .and_then(|subscriber| subscriber.target.lazy())
        {
            Some(endpoint) => self.by_id.insert_mut(id, endpoint.clone()),
            None => _ = self.by_id.remove_mut(&id),
        }
        entry(&mut self.by_organization, &org_id).change(events, |subscribers| {
            subscribers.remove(id);
            if let Some(subscriber) = subscriber {
                subscribers.insert(subscriber);
            }
        });
    }
}

/// What a map has under a key; something new if it has nothing. What other maps share is copied.
fn entry<'a, K, V>(map: &'a mut HashTrieMapSync<K, V>, key: &K) -> &'a mut V
where
    K: Clone + Eq + Hash,
    V: Clone + Default,
{
    if !map.contains_key(key) {
        map.insert_mut(key.clone(), V::default());
    }
    map.get_mut(key).expect("it was put there")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use shared::domain::filter::PayloadFilter;

    use super::*;
    use crate::endpoints::event_types::EventTypes;
    use crate::endpoints::subscribers::Target;

    #[test]
    fn a_tenants_filters_take_no_steps_of_those_of_endpoints_of_all_tenants() {
        let filter = Arc::new(PayloadFilter::parse(r#"{"/a":1}"#).unwrap());
        let subscriber = || Subscriber {
            endpoint_id: EndpointId::generate(),
            target: Target::Pull,
            ordered: false,
            types: Arc::new(EventTypes::new(&[])),
            filter: Some(filter.clone()),
        };
        let event = Event {
            tenant: Some("acme"),
            data: br#"{"a":1}"#,
            ..Event::sample()
        };
        let (of_tenant, of_all) = (subscriber(), subscriber());
        let expected = [(of_all.endpoint_id, false), (of_tenant.endpoint_id, true)];
        // Enough for one of the two.
        let mut snapshot = Snapshot::empty(filter.steps());
        let tenant = EventsOf::Tenant("acme".parse().unwrap());
        for (events, subscriber) in [(tenant, of_tenant), (EventsOf::AllTenants, of_all)] {
            snapshot.replace(subscriber.endpoint_id, event.org_id, &events, Some(subscriber));
        }
        let mut slices = Slices::new();
        let takers = snapshot.takers(&event, &mut slices).now_or_never();
        let takers = takers.expect("it is less than a slice");
        let undecided = |taker: &Taker<'_>| (taker.subscriber.endpoint_id, taker.is_undecided);
        assert_eq!(takers.iter().map(undecided).collect::<Vec<_>>(), expected);
    }
}
