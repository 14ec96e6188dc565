//! The HTTP server of an instance, on its own thread, so that a request cannot delay a role.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::Value;
use tracing::{error, info};

use crate::api::answers;
use crate::kafka::process::clock;
use crate::kafka::process::metrics::MetricsRegistry;

/// Listens on an address until the process ends. Port 0 picks a free port.
///
/// # Errors
/// The address is in use, or does not belong to this machine.
pub fn listen(address: SocketAddr, board: &MetricsRegistry) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    info!(address = %listener.local_addr()?, "http listening");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let board = board.clone();
    thread::Builder::new().name("http".to_owned()).spawn(move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, router(board)).await
        });
        if let Err(error) = served {
            error!(%error, "http server stopped");
        }
    })?;
    Ok(())
}

fn router(board: MetricsRegistry) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(board)
}

async fn livez(State(board): State<MetricsRegistry>) -> Response {
    answer(answers::livez(&board.liveness.read(), clock::moment()))
}

async fn readyz(State(board): State<MetricsRegistry>) -> Response {
    answer(answers::readyz(&board.liveness.read(), clock::moment()))
}

async fn metrics(State(board): State<MetricsRegistry>) -> Response {
    let mut text = answers::metrics(&board.counters(), &board.gauges(), &board.liveness.read());
    text.push_str(&answers::unsent(&board.failed_forwards()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

fn answer((is_well, said): (bool, Value)) -> Response {
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(said)).into_response()
}
