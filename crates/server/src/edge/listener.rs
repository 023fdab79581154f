//! Accepted sockets: they send at once, and one whose client accepts nothing for too long is closed.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Connected<IncomingStream<'_, BoundedListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A listener whose sockets bound how long a write may stall.
pub(super) struct BoundedListener {
    pub(super) inner: TcpListener,
    /// How long a client may accept nothing at all while there is something to send.
    pub(super) write_stall: Duration,
}

impl Listener for BoundedListener {
    type Io = Pin<Box<TimeoutStream<TcpStream>>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (socket, peer) = Listener::accept(&mut self.inner).await;
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY not set");
        }
        let mut socket = TimeoutStream::new(socket);
        socket.set_write_timeout(Some(self.write_stall));
        (Box::pin(socket), peer)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}
