//! Extractors whose rejections are [`ApiError`]s, so that every answer has the same body.

use axum::extract::{
    FromRequest, FromRequestParts, Request,
    rejection::{BytesRejection, JsonRejection},
};
use axum::http::{StatusCode, request::Parts};
use serde::de::DeserializeOwned;
use stakpak_protocol::ErrorCode;

use crate::{ApiError, Server};

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Server> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, server: &Server) -> Result<Self, ApiError> {
        let limit = server.limits().body_timeout;
        match tokio::time::timeout(limit, axum::Json::<T>::from_request(request, server)).await {
            Ok(Ok(axum::Json(value))) => Ok(Self(value)),
            Ok(Err(rejection)) => Err(body_error(&rejection)),
            Err(_) => Err(ApiError::new(
                ErrorCode::RequestTimeout,
                format!("the body did not arrive within {} s; send it whole", limit.as_secs()),
            )),
        }
    }
}

fn body_error(rejection: &JsonRejection) -> ApiError {
    let detail = std::error::Error::source(rejection).map_or_else(|| rejection.body_text(), ToString::to_string);
    match rejection {
        JsonRejection::JsonDataError(_) => {
            ApiError::new(ErrorCode::InvalidBody, format!("the body does not fit: {detail}"))
        }
        JsonRejection::JsonSyntaxError(_) => {
            ApiError::new(ErrorCode::InvalidJson, format!("the body is not JSON: {detail}"))
        }
        JsonRejection::MissingJsonContentType(_) => {
            ApiError::new(ErrorCode::UnsupportedMediaType, "send the body with `content-type: application/json`")
        }
        JsonRejection::BytesRejection(bytes) => too_large_or_broken(bytes),
        _ => ApiError::new(ErrorCode::InvalidJson, detail),
    }
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
