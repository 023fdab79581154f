//! Extractors whose rejections are [`ApiError`]s, so that every answer has the same body.

use axum::body::Bytes;
use axum::extract::{
    FromRequest, FromRequestParts, Request,
    rejection::{BytesRejection, JsonRejection},
};
use axum::http::{HeaderMap, StatusCode, header, request::Parts};
use serde::de::DeserializeOwned;
use serde_json::Value;
use stakpak_protocol::ErrorCode;
use utoipa::ToSchema;

use crate::{
    ApiError, Server,
    fields::{self, Ignored},
};

/// A JSON body. Fields that its type does not have are left out and named to the client.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned + ToSchema> FromRequest<Server> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, server: &Server) -> Result<Self, ApiError> {
        let is_json = is_json(request.headers());
        let ignored = request.extensions().get::<Ignored>().cloned().unwrap_or_default();
        let limit = server.limits().body_timeout;
        let body = tokio::time::timeout(limit, Bytes::from_request(request, server)).await.map_err(|_| {
            let message = format!("the body did not arrive within {} s; send it whole", limit.as_secs());
            ApiError::new(ErrorCode::RequestTimeout, message)
        })?;
        let body = body.map_err(|rejection| too_large_or_broken(&rejection))?;
        if !is_json {
            let message = "send the body with `content-type: application/json`";
            return Err(ApiError::new(ErrorCode::UnsupportedMediaType, message));
        }
        let (value, unknown) = read::<T>(&body)?;
        ignored.tell(unknown);
        Ok(Self(value))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// The value, and the paths in the body that it has no field for. Whether it is JSON comes before whether it fits.
fn read<T: DeserializeOwned + ToSchema>(body: &[u8]) -> Result<(T, Vec<String>), ApiError> {
    let text = std::str::from_utf8(body)
        .map_err(|error| ApiError::new(ErrorCode::InvalidJson, format!("the body is not UTF-8: {error}")))?;
    let json: Value = serde_json::from_str(text)
        .map_err(|error| ApiError::new(ErrorCode::InvalidJson, format!("the body is not JSON: {error}")))?;
    let axum::Json(value) = axum::Json::<T>::from_bytes(body).map_err(|rejection| misfit(&rejection))?;
    let unknown = fields::unknown(&T::name(), &json).map_err(|path| {
        let place = if path.is_empty() { "the body" } else { &path };
        ApiError::new(ErrorCode::InvalidBody, format!("{place}: must be an object with named fields, not an array"))
    })?;
    Ok((value, unknown))
}

fn misfit(rejection: &JsonRejection) -> ApiError {
    let detail = std::error::Error::source(rejection).map_or_else(|| rejection.body_text(), ToString::to_string);
    ApiError::new(ErrorCode::InvalidBody, format!("the body does not fit: {detail}"))
}

fn too_large_or_broken(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        ApiError::new(ErrorCode::PayloadTooLarge, "the body is too large")
    } else {
        ApiError::new(ErrorCode::InvalidJson, "the body did not arrive whole")
    }
}

/// Parts of the path.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::new(
                ErrorCode::InvalidPath,
                format!("the path holds an id that is no UUID: {}", rejection.body_text()),
            )),
        }
    }
}

/// The query.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::new(ErrorCode::InvalidQuery, rejection.body_text())),
        }
    }
}
