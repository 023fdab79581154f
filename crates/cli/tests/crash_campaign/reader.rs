//! Readers of an event stream that come back after every kill, and keep every byte they saw.

use std::sync::{Arc, Mutex};

use stakpak_protocol::EventEnvelope;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    ledger::{Connection, Frame},
    world::{PATIENCE, Target, World},
};

/// Where a reader goes on after its stream was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Behind the last event it has.
    Cursor,
    /// From the first event.
    Start,
}

/// A reader of one session. Stops when dropped.
pub struct Reader {
    seen: watch::Receiver<Vec<Frame>>,
    connections: Arc<Mutex<Vec<Connection>>>,
    task: JoinHandle<()>,
}

impl Reader {
    pub fn start(world: &Arc<World>, session: &str, resume: Resume) -> Self {
        let (send, seen) = watch::channel(Vec::new());
        let connections = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(follow(Arc::clone(world), session.to_owned(), resume, send, Arc::clone(&connections)));
        Self { seen, connections, task }
    }

    /// The first event for which `found` finds something, seen already or to come; none: not in time.
    pub async fn find<T>(&self, found: impl Fn(&EventEnvelope) -> Option<T>) -> Option<T> {
        let first = |frames: &Vec<Frame>| frames.iter().find_map(|frame| found(frame.envelope()));
        let mut seen = self.seen.clone();
        let waited = tokio::time::timeout(PATIENCE, seen.wait_for(|frames| first(frames).is_some())).await;
        waited.ok()?.ok().and_then(|frames| first(&frames))
    }

    /// Ends it; every connection it had.
    pub fn stop(&self) -> Vec<Connection> {
        self.task.abort();
        std::mem::take(&mut *self.connections.lock().unwrap())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    world: Arc<World>,
    session: String,
    resume: Resume,
    seen: watch::Sender<Vec<Frame>>,
    connections: Arc<Mutex<Vec<Connection>>>,
) {
    let mut cursor = 0;
    loop {
        let target = world.target().await;
        let after = if resume == Resume::Start { 0 } else { cursor };
        let Some(mut stream) = Stream::open(&world, &target, &session, after).await else {
            tokio::time::sleep(crate::actor::PAUSE).await;
            continue;
        };
        let index = {
            let mut connections = connections.lock().unwrap();
            connections.push(Connection { after, ..Connection::default() });
            connections.len() - 1
        };
        while let Some(read) = stream.next().await {
            world.beat();
            let mut connections = connections.lock().unwrap();
            // Taken by `stop`.
            let Some(connection) = connections.get_mut(index) else { return };
            match read {
                Read::Event(frame) => {
                    cursor = frame.id();
                    connection.frames.push(frame.clone());
                    seen.send_modify(|frames| frames.push(frame));
                }
                Read::Control(text) => {
                    let is_over = is_deletion(&text);
                    connection.control.push(text);
                    if is_over {
                        return;
                    }
                }
            }
        }
    }
}

/// The frame that says that there will be no further event.
pub fn is_deletion(control: &str) -> bool {
    control.starts_with("event: session_deleted\n")
}

/// Reads all events behind a cursor up to `last`; what is missing when the stream ends or stalls is missing.
pub async fn read_until(world: &World, session: &str, after: u64, last: u64) -> Connection {
    let mut connection = Connection { after, complete: true, ..Connection::default() };
    let target = world.target().await;
    let read = async {
        let Some(mut stream) = Stream::open(world, &target, session, after).await else { return };
        while connection.frames.last().map_or(after, Frame::id) < last {
            match stream.next().await {
                Some(Read::Event(frame)) => connection.frames.push(frame),
                Some(Read::Control(text)) => connection.control.push(text),
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(PATIENCE, read).await;
    connection
}

enum Read {
    Event(Frame),
    Control(String),
}

struct Stream {
    response: reqwest::Response,
    rest: Vec<u8>,
}

impl Stream {
    async fn open(world: &World, target: &Target, session: &str, after: u64) -> Option<Self> {
        let url = format!("{}/v1/sessions/{session}/events", target.url);
        let request = world.http.get(url).bearer_auth(&target.token).header("last-event-id", after);
        let response = request.send().await.ok().filter(|response| response.status() == 200)?;
        Some(Self { response, rest: Vec::new() })
    }

    /// The next whole frame. What a kill cut in the middle was never seen.
    async fn next(&mut self) -> Option<Read> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
                let frame: Vec<u8> = self.rest.drain(..end + 2).collect();
                let text = String::from_utf8(frame).unwrap_or_else(|error| error.to_string());
                if text.starts_with(':') {
                    continue;
                }
                return Some(Frame::read(&text).map_or(Read::Control(text), Read::Event));
            }
            self.rest.extend(self.response.chunk().await.ok()??);
        }
    }
}
