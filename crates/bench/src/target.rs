//! A server under test, or the floor: both speak the same few routes.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use hyper::Method;
use serde_json::{Value, json};

use crate::{connection::Connection, events::Events, process::Process};

/// How long anything may take before the measurement gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What every measured run says.
pub(crate) const TEXT: &str = "hi";

/// Where a server is, and what it is known to the kernel as.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    pub(crate) process: Process,
}

impl Target {
    pub(crate) async fn connect(&self) -> Result<Connection> {
        Connection::open(self.address, &self.token).await
    }

    /// The session's events after a cursor; the stream is open when this returns.
    pub(crate) async fn events(&self, session: &str, after: u64) -> Result<Events> {
        let mut connection = self.connect().await?;
        let path = format!("/v1/sessions/{session}/events?after={after}");
        let response = connection.send(Method::GET, &path, None).await?;
        Ok(Events::new(response.into_body(), connection))
    }
}

impl Connection {
    /// A new session.
    pub(crate) async fn session(&mut self) -> Result<String> {
        text(&self.post("/v1/sessions", &json!({"title": "bench"})).await?, "id")
    }

    /// Starts a run.
    pub(crate) async fn message(&mut self, session: &str, content: &str) -> Result<String> {
        let body = json!({"message": {"role": "user", "content": content}});
        text(&self.post(&format!("/v1/sessions/{session}/messages"), &body).await?, "run_id")
    }
}

/// A string of an answer.
pub(crate) fn text(answer: &Value, key: &str) -> Result<String> {
    let value = answer[key].as_str().with_context(|| format!("the answer has no {key}: {answer}"))?;
    Ok(value.to_owned())
}
