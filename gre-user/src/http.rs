//! The HTTP server of `run`: `/metrics` and `/healthz`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::listen::{Connection, Listener};
use crate::metrics::Metrics;

/// The media type of OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// How many may be connected at a time; more wait in the kernel's queue.
pub(crate) const CONNECTIONS: usize = 16;
/// How long someone who has connected may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait after a connection could not be accepted, as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers all who connect, for good.
pub(crate) async fn serve(listener: Listener, metrics: Arc<Metrics>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed, so there is always a permit in the end.
        let permit = Arc::clone(&room).acquire_owned().await;
        match listener.accept().await {
            Ok(connection) => {
                let metrics = Arc::clone(&metrics);
                tokio::spawn(async move {
                    match connection {
                        Connection::Tcp(stream) => converse(stream, metrics).await,
                        Connection::Unix(stream) => converse(stream, metrics).await,
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                log::warn!("a connection could not be accepted: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, metrics: Arc<Metrics>) {
    let service = service_fn(move |request| {
        let metrics = Arc::clone(&metrics);
        async move { Ok::<_, Infallible>(answer(&request, metrics).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        log::debug!("a connection ended early: {error}");
    }
}

async fn answer(request: &Request<Incoming>, metrics: Arc<Metrics>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !matches!(path, "/metrics" | "/healthz") {
        let text = "gre-decap: /metrics has the metrics, /healthz whether the program is attached\n";
        return response(StatusCode::NOT_FOUND, TEXT, text.to_owned());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET and HEAD only\n".to_owned());
        refusal
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    if path == "/metrics" {
        match read(move || metrics.text()).await {
            Ok(text) => response(StatusCode::OK, OPEN_METRICS, text),
            Err(error) => unavailable(&error),
        }
    } else {
        match read(move || metrics.health()).await {
            Ok(text) => response(StatusCode::OK, TEXT, text + "\n"),
            Err(error) => unavailable(&error),
        }
    }
}

/// Reads from the kernel in a thread that may wait, so that nobody else has to.
async fn read(read: impl FnOnce() -> Result<String> + Send + 'static) -> Result<String> {
    spawn_blocking(read).await?
}

fn unavailable(error: &anyhow::Error) -> Response<Full<Bytes>> {
    response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{error:#}\n"))
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
