//! One kept-alive HTTP/1.1 connection, without a pool: a request costs the driver two system calls.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, Uri,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

/// A connection to a server; closed when dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    authorization: HeaderValue,
    _driver: AbortOnDropHandle<hyper::Result<()>>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("{address} cannot be reached"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            sender,
            host: HeaderValue::from_str(&address.to_string())?,
            authorization: HeaderValue::from_str(&format!("Bearer {token}"))?,
            _driver: AbortOnDropHandle::new(tokio::spawn(connection)),
        })
    }

    /// The answer to a request, as soon as its head is there. Anything but a 2xx is an error.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::new(Full::new(body.map(Value::to_string).unwrap_or_default().into()));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse::<Uri>()?;
        request.headers_mut().insert(HOST, self.host.clone());
        request.headers_mut().insert(AUTHORIZATION, self.authorization.clone());
        if body.is_some() {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await.with_context(|| format!("no answer to {path}"))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        bail!("{path} was answered with {status}: {}", String::from_utf8_lossy(&body))
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Value> {
        let response = self.send(Method::GET, path, None).await?;
        Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?)
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        let response = self.send(Method::POST, path, Some(body)).await?;
        Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?)
    }
}
