//! The table of routes: every operation of the contract, once, by who may call it.

use std::sync::Arc;

use axum::http::Method;
use utoipa::openapi::PathItem;
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::domain::access::session::Capability;
use crate::http::admission::portal_routes::{PortalRoute, PortalRoutes};
use crate::routes::stats::tail;
use crate::routes::trials::{filters, templates};
use crate::routes::{
    audit_log, endpoints, events, keys, legacy, organizations, portal, pull, stats, tenants, usage,
};

/// Operations of the contract: their handlers with their paths, and what the document says of them.
pub(super) type Operations = Vec<UtoipaMethodRouter<Arc<App>>>;

/// The same, each with all the capabilities that a portal session needs for it.
type SessionOperations = Vec<(&'static [Capability], UtoipaMethodRouter<Arc<App>>)>;

/// What needs an API key. A portal session may use none of it.
fn with_key_alone() -> Operations {
    vec![
        routes!(events::create::create),
        routes!(events::batch::create),
        routes!(events::data::remove),
        routes!(pull::lease::pull),
        routes!(pull::acknowledge::acknowledge),
        routes!(pull::give_back::give_back),
        routes!(pull::extend::extend),
        routes!(tenants::list::list),
        routes!(tenants::put, tenants::show, tenants::change, tenants::delete),
        routes!(portal::sessions::create, portal::sessions::end_all),
        routes!(portal::sessions::end),
        routes!(portal::settings::show, portal::settings::put),
        routes!(keys::own::create, keys::own::list),
        routes!(keys::own::revoke),
        routes!(keys::own::rotate),
        routes!(usage::list),
    ]
}

/// What needs an API key, or a portal session with these capabilities.
fn with_key_or_session() -> SessionOperations {
    use Capability::{ManageEndpoints, Replay, View, ViewSecrets};
    vec![
        (&[View], routes!(events::read::list)),
        (&[View], routes!(events::read::show)),
        (&[Replay], routes!(events::replay::replay)),
        (&[Replay], routes!(events::replay::retry)),
        (&[ManageEndpoints], routes!(endpoints::manage::create)),
        (&[View], routes!(endpoints::list::list)),
        (&[View], routes!(endpoints::manage::show)),
        (&[ManageEndpoints], routes!(endpoints::manage::change)),
        (&[ManageEndpoints], routes!(endpoints::manage::delete)),
        (
            &[ManageEndpoints, ViewSecrets],
            routes!(endpoints::secret::rotate),
        ),
        (&[View], routes!(endpoints::public_key::show)),
        (&[ManageEndpoints], routes!(endpoints::public_key::rotate)),
        (&[ManageEndpoints], routes!(endpoints::test_event::send)),
        (&[ManageEndpoints], routes!(filters::test::test)),
        (&[View, ManageEndpoints], routes!(filters::preview::preview)),
        (&[ManageEndpoints], routes!(templates::test::test)),
        (&[View], routes!(endpoints::deliveries::list)),
        (&[View], routes!(endpoints::deliveries::summary)),
        (&[View], routes!(endpoints::dead::count)),
        (&[View], routes!(endpoints::stats::show)),
        (&[Replay], routes!(endpoints::recoveries::create)),
        (&[View], routes!(endpoints::recoveries::list)),
        (&[View], routes!(endpoints::recoveries::show)),
        (&[Replay], routes!(endpoints::recoveries::cancel)),
        (&[], routes!(portal::show::show)),
        (&[View], routes!(stats::show)),
        (&[View], routes!(tail::tail)),
    ]
}

/// What needs an API key, whether a portal session may use it or not.
pub(super) fn with_key() -> Operations {
    let others = with_key_or_session().into_iter();
    let others = others.map(|(_, operations)| operations);
    with_key_alone().into_iter().chain(others).collect()
}

/// What needs an API key in the Zapier Triggers API, whose errors have another form.
pub(super) fn legacy_with_key() -> Operations {
    vec![
        routes!(legacy::keys::list),
        routes!(legacy::keys::rotate),
        routes!(legacy::events::create),
        routes!(legacy::inbox::list),
        routes!(legacy::inbox::acknowledge),
        routes!(legacy::webhook::configure),
    ]
}

/// What anyone may call in the Zapier Triggers API.
pub(super) fn legacy_without_key() -> Operations {
    vec![routes!(legacy::keys::generate), routes!(legacy::health)]
}

/// What needs the admin token.
pub(super) fn admin() -> Operations {
    vec![
        routes!(organizations::create, organizations::list),
        routes!(organizations::show, organizations::change, organizations::delete),
        routes!(keys::admin::create, keys::admin::list),
        routes!(keys::admin::revoke),
        routes!(endpoints::manage::create_as_admin),
        routes!(events::explain::explain),
        routes!(audit_log::list),
        routes!(stats::admin::show),
        routes!(usage::list_all),
    ]
}

/// All operations: what the document describes, wherever they are served.
pub(super) fn contract() -> impl Iterator<Item = UtoipaMethodRouter<Arc<App>>> {
    let groups = [with_key(), legacy_with_key(), legacy_without_key(), admin()];
    groups.into_iter().flatten()
}

/// The routes that a portal session may use.
pub(crate) fn portal_routes() -> PortalRoutes {
    let declared = with_key_or_session().into_iter();
    PortalRoutes::new(declared.flat_map(|(needed, (_, paths, _))| {
        paths.paths.into_iter().flat_map(move |(path, item)| {
            methods(&item).into_iter().map(move |method| PortalRoute {
                method,
                path: path.clone(),
                needed,
            })
        })
    }))
}

/// The methods that a path is declared with.
fn methods(item: &PathItem) -> Vec<Method> {
    let operations = [
        (Method::GET, &item.get),
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
    ];
    let declared = operations
        .into_iter()
        .filter(|(_, operation)| operation.is_some());
    declared.map(|(method, _)| method).collect()
}
