//! `Idempotency-Key`: the same key gives the same answer, also for two requests at once and after a restart.
//!
//! The stored answer is committed with the effect it answers for; here is only what happens before: comparing bodies,
//! replaying, and letting one of several requests go first.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use stakpak_agent_core::{Receipt, session::Reply};
use stakpak_protocol::ErrorCode;
use tokio::sync::Semaphore;

use crate::{ApiError, Server, auth::Caller, live::MakeReceipt};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const MAX_KEY: usize = 255;

/// How long a second request waits for the first one's answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an answer is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keep {
    /// Most routes.
    Day,
    /// POST messages: gateway and scheduler repeat their keys for as long.
    Month,
}

impl Keep {
    fn until(self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + match self {
            Self::Day => TimeDelta::days(1),
            Self::Month => TimeDelta::days(30),
        }
    }
}

/// The key of a request in its scope: token name, method, path. None when the request has no key.
pub(crate) struct Key(Option<String>);

impl FromRequestParts<Server> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _server: &Server) -> Result<Self, ApiError> {
        let Some(key) = parts.headers.get(HEADER) else { return Ok(Self(None)) };
        let key = key.to_str().ok().filter(|key| (1..=MAX_KEY).contains(&key.len())).ok_or_else(|| {
            ApiError::new(
                ErrorCode::InvalidIdempotencyKey,
                "Idempotency-Key must be 1 to 255 printable ASCII characters",
            )
        })?;
        let caller = parts.extensions.get::<Caller>().map_or("anonymous", |caller| &caller.0);
        let path = parts.uri.path();
        // `tools/resolve` is another name of `tools/decisions`.
        let path = path.strip_suffix("/resolve").map_or_else(|| path.to_owned(), |tools| format!("{tools}/decisions"));
        Ok(Self(Some(format!("{caller} {} {path} {key}", parts.method))))
    }
}

/// Requests with a key that are being answered.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<HashMap<String, Arc<Semaphore>>>);

/// What a request with a key comes to.
pub(crate) enum Begun {
    /// The stored answer.
    Replay(Response),
    /// This request goes first; others wait until the claim is dropped.
    Go(Claim),
}

/// The right to answer under a key, and what the receipt will say. It lives until the request is answered, also when its
/// client is gone: others wait for as long.
pub(crate) struct Claim {
    in_flight: Arc<InFlight>,
    scope: Option<String>,
    body_hash: [u8; 32],
    expires_at: DateTime<Utc>,
}

impl Server {
    /// Replays the stored answer of this key, or claims it.
    pub(crate) async fn begin<T: Serialize>(&self, key: Key, body: &T, keep: Keep) -> Result<Begun, ApiError> {
        let now = self.agent().clock.now();
        let Key(scope) = key;
        let body_hash = hash(body)?;
        let in_flight = Arc::clone(self.in_flight());
        if let Some(scope) = &scope {
            in_flight.enter(scope).await?;
        }
        let claim = Claim { in_flight, scope, body_hash, expires_at: keep.until(now) };
        let Some(scope) = &claim.scope else { return Ok(Begun::Go(claim)) };
        match self.agent().journal.receipt(scope, now).await? {
            None => Ok(Begun::Go(claim)),
            Some(stored) if stored.body_hash == body_hash => Ok(Begun::Replay(replay(stored))),
            Some(_) => Err(ApiError::new(
                ErrorCode::IdempotencyKeyReused,
                "this Idempotency-Key was used with another body; use a new key",
            )),
        }
    }
}

impl InFlight {
    async fn enter(&self, scope: &str) -> Result<(), ApiError> {
        let turn = {
            let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(claims.entry(scope.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        match tokio::time::timeout(PATIENCE, turn.acquire()).await {
            Ok(Ok(permit)) => {
                permit.forget();
                Ok(())
            }
            _ => Err(ApiError::new(
                ErrorCode::IdempotencyInProgress,
                "the first request with this Idempotency-Key is still being answered",
            )
            .retry_after(5)),
        }
    }
}

impl Claim {
    /// The receipt to commit with the effect; none when the request has no key.
    pub(crate) fn receipt<T: Serialize>(&self, status: StatusCode, body: &T) -> Option<Receipt> {
        Some(Receipt {
            scope: self.scope.clone()?,
            body_hash: self.body_hash,
            status: status.as_u16(),
            body: serde_json::to_string(body).ok()?,
            expires_at: self.expires_at,
        })
    }

    /// The same, for an answer that is known only once the effect is. No answer, no receipt: the key stays free.
    pub(crate) fn into_receipt<T: Serialize>(
        self,
        answer: impl Fn(&Reply) -> Option<T> + Send + Sync + 'static,
    ) -> MakeReceipt {
        Arc::new(move |reply| self.receipt(StatusCode::OK, &answer(reply)?))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(scope) = &self.scope else { return };
        let mut claims = self.in_flight.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = claims.get(scope) {
            if Arc::strong_count(turn) == 1 {
                claims.remove(scope);
            } else {
                turn.add_permits(1);
            }
        }
    }
}

fn replay(stored: Receipt) -> Response {
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    let mut response = (status, stored.body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Bodies are compared by meaning: the typed value leaves out formatting, key order, unknown fields and nulls.
fn hash<T: Serialize>(body: &T) -> Result<[u8; 32], ApiError> {
    let canonical =
        serde_json::to_vec(body).map_err(|_| ApiError::new(ErrorCode::InvalidBody, "the body cannot be compared"))?;
    Ok(Sha256::digest(canonical).into())
}
