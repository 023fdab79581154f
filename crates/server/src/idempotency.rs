//! `Idempotency-Key`: the same key gives the same answer, also for two requests at once and after a restart.
//!
//! The stored answer is committed with the effect it answers for; here is only what happens before: comparing bodies,
//! replaying, and letting one of several requests go first.

use std::{
    collections::HashMap,
    convert::Infallible,
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
use stakpak_agent_core::{
    Receipt,
    session::{Reply, Request},
};
use stakpak_protocol::{ErrorCode, SessionId};
use tokio::sync::Semaphore;

use crate::{
    ApiError, Server,
    auth::{self, Caller},
    live::MakeReceipt,
};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const MAX_KEY: usize = 255;

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

/// The key of a request in its scope: token name, method, path. None when the request has no key. A bad key is reported
/// when it is used: what is wrong with the body comes first.
pub(crate) struct Key(Result<Option<String>, ApiError>);

impl FromRequestParts<Server> for Key {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _server: &Server) -> Result<Self, Infallible> {
        Ok(Self(Self::scope(parts)))
    }
}

impl Key {
    fn scope(parts: &Parts) -> Result<Option<String>, ApiError> {
        let Some(key) = parts.headers.get(HEADER) else { return Ok(None) };
        let key = key.to_str().ok().filter(|key| (1..=MAX_KEY).contains(&key.len())).ok_or_else(|| {
            ApiError::new(
                ErrorCode::InvalidIdempotencyKey,
                "Idempotency-Key must be 1 to 255 printable ASCII characters",
            )
        })?;
        let caller = parts.extensions.get::<Caller>().map_or(auth::ANONYMOUS, |caller| &caller.0);
        let path = parts.uri.path();
        // `tools/resolve` is another name of `tools/decisions`.
        let path = path.strip_suffix("/resolve").map_or_else(|| path.to_owned(), |tools| format!("{tools}/decisions"));
        Ok(Some(format!("{caller} {} {path} {key}", parts.method)))
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
        let scope = scope?;
        let body_hash = hash(body)?;
        let in_flight = Arc::clone(self.in_flight());
        if let Some(scope) = &scope {
            in_flight.enter(scope, self.limits().key_patience).await?;
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

    /// Asks a session. The answer is written once: what is stored with the effect is what this client gets. None when the
    /// reply makes no answer; its key then stays free.
    pub(crate) async fn ask<T: Serialize>(
        &self,
        id: SessionId,
        request: Request,
        claim: Claim,
        answer: impl Fn(&Reply) -> Option<T> + Send + Sync + 'static,
    ) -> Result<Option<Response>, ApiError> {
        let written = Arc::new(Mutex::new(None));
        let write = Arc::clone(&written);
        let make_receipt = move |reply: &Reply| {
            let body = answer(reply).and_then(|answer| serde_json::to_string(&answer).ok());
            write.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&body);
            claim.stored(StatusCode::OK, body?)
        };
        self.live().request(id, request, Arc::new(make_receipt)).await?;
        let body = written.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(body.map(|body| respond(StatusCode::OK, body)))
    }
}

impl InFlight {
    async fn enter(&self, scope: &str, patience: Duration) -> Result<(), ApiError> {
        let turn = {
            let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(claims.entry(scope.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        match tokio::time::timeout(patience, turn.acquire()).await {
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
        self.stored(status, serde_json::to_string(body).ok()?)
    }

    fn stored(&self, status: StatusCode, body: String) -> Option<Receipt> {
        Some(Receipt {
            scope: self.scope.clone()?,
            body_hash: self.body_hash,
            status: status.as_u16(),
            body,
            expires_at: self.expires_at,
        })
    }

    /// The same, for an answer without a body.
    pub(crate) fn into_empty_receipt(self) -> MakeReceipt {
        Arc::new(move |_| self.stored(StatusCode::NO_CONTENT, String::new()))
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
    let mut response = respond(StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK), stored.body);
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

fn respond(status: StatusCode, body: String) -> Response {
    if body.is_empty() {
        return status.into_response();
    }
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Bodies are compared by meaning: the typed value leaves out formatting, unknown fields and nulls; sorting, key order.
fn hash<T: Serialize>(body: &T) -> Result<[u8; 32], ApiError> {
    let cannot = |_| ApiError::new(ErrorCode::InvalidBody, "the body cannot be compared");
    let mut canonical = serde_json::to_value(body).map_err(cannot)?;
    canonical.sort_all_objects();
    Ok(Sha256::digest(serde_json::to_vec(&canonical).map_err(cannot)?).into())
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use chrono::Utc;
    use stakpak_protocol::ErrorCode;

    use super::{Claim, InFlight};

    /// The second request with a key waits for the first, and is asked to come back when that takes too long.
    #[tokio::test]
    async fn a_key_in_use_is_in_progress_until_its_claim_is_dropped() {
        let in_flight = Arc::new(InFlight::default());
        let (short, long) = (Duration::from_millis(5), Duration::from_secs(60));
        in_flight.enter("scope", short).await.unwrap();
        let claim = Claim {
            in_flight: Arc::clone(&in_flight),
            scope: Some("scope".to_owned()),
            body_hash: [0; 32],
            expires_at: Utc::now(),
        };
        let refused = in_flight.enter("scope", short).await.unwrap_err().0;
        assert_eq!((refused.code, refused.code.status()), (ErrorCode::IdempotencyInProgress, 409));
        assert!(refused.retry_after_s.is_some_and(|seconds| seconds > 0));
        in_flight.enter("another", short).await.unwrap();
        let waiting = tokio::spawn({
            let in_flight = Arc::clone(&in_flight);
            async move { in_flight.enter("scope", long).await.is_ok() }
        });
        drop(claim);
        assert!(waiting.await.unwrap(), "its turn comes");
    }
}
