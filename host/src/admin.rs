//! The administrator's listener: health, readiness, metrics, and the admin API. Off the hot path, so axum serves it.
//!
//! What it does not do: it changes nothing but what it is asked to (a reload, a purge, a switch); it never shows a secret.
//!
//! **Invariant:** /readyz says 503 from the moment a drain begins; /healthz says 200 as long as the process can answer.

mod api;
mod cache;
mod exchanges;
mod metrics;
mod plugins;

use std::net::TcpListener;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::BodyExt;
use http_body_util::combinators::MapErr;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tower_service::Service;

use crate::config;
use crate::gateway::Gateway;
use crate::identity::page;
use crate::listen::{self, Drain};

/// Connections at once.
const CONNECTIONS: usize = 256;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What handlers share.
#[derive(Clone)]
pub(crate) struct Admin {
    gateway: Arc<Gateway>,
    key: Option<SecretString>,
    reload: Arc<dyn Fn() + Send + Sync>,
}

/// Binds the administrator's address, beside a process that drains: it answers there to its end, and the next one must not wait for that.
///
/// # Errors
/// What the system says.
pub fn bind(admin: &config::Admin) -> std::io::Result<TcpListener> {
    let mut sockets = listen::bind(admin.address, 1)?;
    sockets.pop().ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())
}

/// Serves until the process ends, and takes nobody in once `drain` has begun. `reload` asks for a reload and does not wait for it.
pub async fn serve(
    socket: TcpListener,
    gateway: Arc<Gateway>,
    key: Option<SecretString>,
    reload: Box<dyn Fn() + Send + Sync>,
    drain: Drain,
) {
    let admin = Admin { gateway, key, reload: reload.into() };
    let guarded = Router::new()
        .route("/metrics", get(metrics::metrics))
        .route("/api/plugins", get(plugins::list))
        .route("/api/plugins/{name}", get(plugins::one))
        .route("/api/plugins/{name}/{step}", post(plugins::step))
        .route("/api/exchanges", get(exchanges::last))
        .route("/api/exchanges/{id}", get(exchanges::one))
        .route("/api/models", get(api::models))
        .route("/api/models/{*name}", post(api::switch))
        .route("/api/prompts", get(api::prompts))
        .route("/api/cache", get(cache::report))
        .route("/api/cache/purge", post(cache::purge))
        .route("/api/cache/export", get(cache::export))
        .route("/api/cache/import", post(cache::import))
        .route("/api/cache/report", get(cache::trust))
        .route("/api/cache/entries/{id}/wrong", post(cache::wrong))
        .route("/api/degrade", get(api::degrade).post(api::pin))
        .route("/api/reload", get(api::reload_status).post(api::reload))
        .layer(axum::middleware::from_fn_with_state(admin.clone(), authenticate))
        .layer(axum::middleware::from_fn_with_state(admin.clone(), not_a_page));
    let router =
        Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready)).merge(guarded).with_state(admin);
    let bound = socket.local_addr().and_then(|address| Ok((address, tokio::net::TcpListener::from_std(socket)?)));
    let (address, listener) = match bound {
        Ok(bound) => bound,
        Err(error) => return tracing::error!(%error, "the admin listener could not be used"),
    };
    let options = listen::Options {
        max_body: 1 << 20,
        max_connections: CONNECTIONS,
        // Whoever holds all of them keeps nobody out: the longest idle one goes.
        max_connections_per_address: usize::MAX,
        crowd: Some(Arc::default()),
        ..listen::Options::new(address)
    };
    listen::serve(listener, Arc::new(options), Arc::new(Site(router)), drain, 0).await;
}

/// The router, behind the same deadlines and caps as every listener.
struct Site(Router);

impl listen::Handler for Site {
    type Body = MapErr<Body, fn(axum::Error) -> BoxError>;

    async fn handle(self: Arc<Self>, request: http::Request<listen::RequestBody>, _: listen::Peer) -> http::Response<Self::Body> {
        let (head, body) = request.into_parts();
        let response = match body.collect().await {
            Ok(body) => {
                self.0.clone().call(Request::from_parts(head, Body::from(body))).await.unwrap_or_else(|never| match never {})
            }
            Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
        };
        response.map(|body| body.map_err(BoxError::from as fn(axum::Error) -> BoxError))
    }
}

async fn ready(Shared(admin): Shared<Admin>) -> (StatusCode, &'static str) {
    if admin.gateway.is_draining() { (StatusCode::SERVICE_UNAVAILABLE, "draining\n") } else { (StatusCode::OK, "ready\n") }
}

/// A web page in the administrator's browser is not the administrator: browsers say where a page that asks comes from, and a name
/// that points here for a moment is not one of ours. (Whoever has the key is no page; without one, a page can send the header too.)
async fn not_a_page(Shared(admin): Shared<Admin>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let shows_key = admin.key.is_some() && headers.contains_key(header::AUTHORIZATION);
    if headers.contains_key(header::ORIGIN) || (!page::is_private(host) && !shows_key) {
        return (StatusCode::FORBIDDEN, "the admin API is not for web pages; ask it by address, or with its key\n")
            .into_response();
    }
    next.run(request).await
}

/// Health is for whoever asks; everything else may need the key.
async fn authenticate(Shared(admin): Shared<Admin>, request: Request, next: Next) -> Response {
    if let Some(key) = &admin.key {
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        if !given.is_some_and(|given| given.ct_eq(key.expose_secret().as_bytes()).into()) {
            return (
                StatusCode::UNAUTHORIZED,
                [(header::WWW_AUTHENTICATE, "Bearer")],
                "the admin API needs the key of [admin], as a bearer token\n",
            )
                .into_response();
        }
    }
    next.run(request).await
}
