//! The gateway that runs on this state directory, asked over its HTTP API.

use std::time::Duration;

use anyhow::Result;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::{autopilot_file::AutopilotFile, home::Home, instance::Facts, place::Place};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Where a running gateway is.
pub(crate) struct RunningGateway {
    url: String,
    token: String,
    http: reqwest::Client,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    /// There is no gateway at the moment: not enabled, starting, or gone.
    #[error("no gateway answers at {0}")]
    Absent(String),
    /// It refused.
    #[error("{message}")]
    Refused { code: String, message: String },
}

impl RunningGateway {
    /// That of `gateway run`, else that of `up` or `serve`; none when none of them runs.
    pub(crate) fn find(home: &Home) -> Result<Option<Self>> {
        if let Some(facts) = Facts::of_gateway(home)? {
            let config = Place::standalone(home, facts.config.as_deref()).load()?;
            return Self::new(facts.url, config.server.token.expose()).map(Some);
        }
        match Facts::of_running(home)? {
            Some(facts) => Self::new(facts.url, &AutopilotFile::load(home)?.token(home)?).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn new(url: String, token: &str) -> Result<Self> {
        // Proxy variables are for the platforms, never for this machine.
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        Ok(Self { url, token: token.to_owned(), http })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Unanswered> {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Unanswered> {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Unanswered> {
        let absent = || Unanswered::Absent(self.url.clone());
        let request = self.http.request(method, format!("{}/v1/gateway/{path}", self.url)).bearer_auth(&self.token);
        let request = body.into_iter().fold(request, |request, body| request.json(body));
        let response = request.send().await.map_err(|_| absent())?;
        let status = response.status();
        let body: Value = response.json().await.map_err(|_| absent())?;
        if status.is_success() {
            return Ok(body);
        }
        // The envelope of the gateway has a `message`, that of the server has none: then the route is not there.
        let (Some(code), Some(message)) = (body["error"].as_str(), body["message"].as_str()) else {
            return Err(absent());
        };
        if status == StatusCode::SERVICE_UNAVAILABLE || message == "there is no such path" {
            return Err(absent());
        }
        Err(Unanswered::Refused { code: code.to_owned(), message: message.to_owned() })
    }
}
