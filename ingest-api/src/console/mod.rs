//! The console, for the platform's own people, and the portal, for one tenant's: pages that are clients of the API. What they
//! ask goes to `/v1` and `/admin/v1`. Here stand their files, and the sessions of the console.
//!
//! Imports what stands below the routes. `ingest-api/console/` has the files.

mod session;
mod same_origin;
pub(crate) mod layer;
mod files;
mod pages;
mod sign_in;

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::{get, post};

use crate::app::App;
use crate::http::request::extract::PathId;

/// All of it, outside the contract.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(
            "/console",
            get(async |headers: HeaderMap| pages::console(&headers)),
        )
        .route(
            "/console/files/{*name}",
            get(async |PathId(name): PathId<String>, headers: HeaderMap| pages::file(&name, &headers)),
        )
        .route(
            "/console/session",
            post(sign_in::sign_in)
                .get(sign_in::show)
                .delete(sign_in::sign_out),
        )
        .route("/portal/{address}", get(pages::portal))
}
